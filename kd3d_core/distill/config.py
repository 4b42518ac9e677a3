"""DistillConfig: what a student learns from its teacher, as `config/train/*.yaml` say it."""

from dataclasses import dataclass, field
from typing import Literal

from kd3d_core.distill.schedule import PartName, Phase, check_phases
from kd3d_core.errors import ConfigError

Place = Literal["voxels", "backbone", "neck"]
"""Where features are compared: the bird's-eye view as the backbone reads it, behind the backbone,
behind the neck."""

FeatureKind = Literal["mse", "smooth_l1"]
ClassKind = Literal["kl", "quality_focal"]
DetectorPart = Literal["backbone", "neck", "head"]


@dataclass(frozen=True)
class Needs:
    """What the loss of a run reads.

    Attributes:
        places: where the teacher's features are compared.
        answers: whether what its head says is.
        filled: whether the cells that it fills are told from empty ones.
        depth: whether the depth that LiDAR measured is.
    """

    places: tuple[Place, ...] = ()
    answers: bool = False
    filled: bool = False
    depth: bool = False


@dataclass(frozen=True)
class TeacherConfig:
    """Who teaches.

    Attributes:
        model: name in `config/models`, or a YAML file such as the one that a training run leaves;
            only its detector is used.
        weights: a file or a name in `config/weights.yaml`; None takes those of `model`.
        points: what it reads: the true LiDAR, or the same pseudo-LiDAR as the student.
        cache: whether its answers are kept on disk and read from there. Only where nothing that it
            sees is augmented; otherwise it is asked in every step, and a warning says why.
    """

    model: str
    weights: str | None = None
    points: Literal["lidar", "pseudo"] = "lidar"
    cache: bool = False

    @property
    def name(self) -> str:
        """Where its weights come from."""
        return self.weights or self.model


@dataclass(frozen=True)
class FeatureConfig:
    """Which features are compared, and how.

    Attributes:
        places: `voxels` (the voxel encoder's bird's-eye view), `backbone`, `neck`.
        loss: on the differences; the mean over cells and channels.
        background: weight of cells outside of objects, beside 1 inside.
        empty: weight of cells that the teacher leaves empty, beside 1 of those it fills.
    """

    places: tuple[Place, ...] = ("neck",)
    loss: FeatureKind = "mse"
    background: float = 1.0
    empty: float = 1.0

    def __post_init__(self) -> None:
        if not self.places or len(set(self.places)) != len(self.places):
            raise ConfigError(
                f"feature.places is {list(self.places)}: name one or more, each once; to compare "
                "none, give feat no weight in any phase"
            )
        for name in ("background", "empty"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"feature.{name} is {getattr(self, name)}: give 0 to 1")


@dataclass(frozen=True)
class LogitConfig:
    """How the answers of the two heads are compared.

    Attributes:
        loss: on class logits: Kullback-Leibler with `temperature`, or quality focal.
        temperature: softens both sides' probabilities.
        threshold: confidence of the teacher from which an anchor counts, by its confidence.
        background: weight of the other anchors' class logits; boxes and headings count for none.
        cls, box, dir: factors of the three parts, as large as the head's own by default.
    """

    loss: ClassKind = "kl"
    temperature: float = 1.0
    threshold: float = 0.1
    background: float = 0.0
    cls: float = 1.0
    box: float = 2.0
    dir: float = 0.2

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(f"logit.temperature is {self.temperature}: it must be above 0")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"logit.threshold is {self.threshold}: give a probability below 1")
        for name in ("background", "cls", "box", "dir"):
            if getattr(self, name) < 0:
                raise ConfigError(f"logit.{name} is {getattr(self, name)}: it can't be negative")


@dataclass(frozen=True)
class DistillConfig:
    """What a student learns from its teacher, and when.

    Attributes:
        phases: the weights of the parts over time.
        feature: the feature loss.
        logit: the loss on the head's answers.
        unlabelled: what a frame without label file teaches: the teacher's confident `boxes` stand
            for labels in `det`, or its `answers` teach alone, through the other parts (CMKD's way).
        label_score: score from which a box of the teacher stands for a label.
        start: the student's first weights: all of the `teacher`'s, those of some of its parts, all
            that fit (`fitting`), or those that `model` names.
        without_lidar: whether labelled frames that have no LiDAR are used without the teacher, or
            skipped.
    """

    phases: tuple[Phase, ...] = (
        Phase(20, {"det": 1.0, "feat": 2.0, "logit": 1.0}),
        Phase(40, {"det": 3.0, "feat": 1.5, "logit": 1.5}),
    )
    feature: FeatureConfig = field(default_factory=FeatureConfig)
    logit: LogitConfig = field(default_factory=LogitConfig)
    unlabelled: Literal["boxes", "answers"] = "boxes"
    label_score: float = 0.5
    start: Literal["teacher", "fitting", "model"] | tuple[DetectorPart, ...] = "teacher"
    without_lidar: Literal["use", "skip"] = "use"

    def __post_init__(self) -> None:
        check_phases(self.phases)
        if not 0 <= self.label_score < 1:
            raise ConfigError(f"label_score is {self.label_score}: give a probability below 1")

    @property
    def parts(self) -> set[PartName]:
        """The parts of the loss that count in any of the phases."""
        return set().union(*(phase.parts for phase in self.phases))

    @property
    def needs(self) -> Needs:
        """What the parts read in any of the phases."""
        features = "feat" in self.parts
        return Needs(
            places=self.feature.places if features else (),
            answers="logit" in self.parts,
            filled=features and self.feature.empty != 1,
        )
