"""DistillConfig: what a student learns from its teacher, as `config/train/*.yaml` say it."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from kd3d_core.classes import KITTI_CLASSES
from kd3d_core.config import check_each
from kd3d_core.distill.cmkd_config import BinsConfig, ResponseConfig
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.distill.schedule import PartName, Phase, check_phases
from kd3d_core.errors import ConfigError

Place = Literal["voxels", "backbone", "neck"]
"""Where features are compared: the bird's-eye view as the backbone reads it, behind the backbone,
behind the neck."""

COMPARED: frozenset[PartName] = frozenset({"feat", "logit", "response"})
"""The parts of the loss in which a student is compared with its teacher."""

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
        objects: whether the true depth of objects is.
    """

    places: tuple[Place, ...] = ()
    answers: bool = False
    filled: bool = False
    depth: bool = False
    objects: bool = False


@dataclass(frozen=True)
class TeacherConfig:
    """Who teaches.

    Attributes:
        model: name in `config/models`, or a YAML file such as the one that a training run leaves;
            only its detector is used.
        weights: a file or a name in `config/weights.yaml`; None takes those of `model`.
        points: what it reads: the true LiDAR, the same pseudo-LiDAR as the student, or as a
            teaching assistant the pseudo-LiDAR of true depth at the student's pixels.
        cache: whether its answers are kept on disk and read from there. Only where nothing that it
            sees is augmented; otherwise it is asked in every step, and a warning says why.
    """

    model: str
    weights: str | None = None
    points: Literal["lidar", "pseudo", "true_depth"] = "lidar"
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
        levels: how many maps of a place are compared, finest first; 0 compares all.
        project: whether the student's features go through a 1x1 convolution first.
        scale: `rms` divides both by the root mean square of the teacher's, so that a weight means
            the same at each place and for each teacher.
        fade_m: metres by which an object's depth is off where its cells count for a third (1/e);
            0 lets all count. It needs `learn_depth`, with the truth of LiDAR.
    """

    places: tuple[Place, ...] = ("neck",)
    loss: FeatureKind = "mse"
    background: float = 1.0
    empty: float = 1.0
    levels: int = 0
    project: bool = True
    scale: Literal["none", "rms"] = "none"
    fade_m: float = 0.0

    def __post_init__(self) -> None:
        if not self.places or len(set(self.places)) != len(self.places):
            raise ConfigError(
                f"feature.places is {list(self.places)}: name one or more, each once; to compare "
                "none, give feat no weight in any phase"
            )
        shares, others, group = ("background", "empty"), ("levels", "fade_m"), "feature"
        check_each(self, shares, lambda value: 0 <= value <= 1, "give 0 to 1", group)
        check_each(self, others, lambda value: 0 <= value < inf, "give 0 or more", group)


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
        group, factors = "logit", ("background", "cls", "box", "dir")
        check_each(self, ("temperature",), lambda value: value > 0, "it must be above 0", group)
        check_each(self, ("threshold",), _below_1, "give a probability below 1", group)
        check_each(self, factors, lambda value: value >= 0, "it can't be negative", group)


@dataclass(frozen=True)
class DistillConfig:
    """What a student learns from its teacher, and when.

    Attributes:
        phases: the weights of the parts over time.
        feature: the feature loss.
        logit: the loss on the head's answers.
        response: the same as CMKD has it.
        bins: the loss on a distribution over depth.
        unlabelled: what a frame without label file teaches: the teacher's confident `boxes` stand
            for labels in `det`, or its `answers` teach alone, through the other parts (CMKD's way).
        label_score: score from which a box of the teacher stands for a label.
        start: the student's first weights: all of the `teacher`'s, those of some of its parts, all
            that fit (`fitting`), or those that `model` names.
        learn_depth: how the student's depth network learns with it; None leaves it as it is, and
            its pseudo-LiDAR is made once.
        without_lidar: whether labelled frames that have no LiDAR are used without the teacher, or
            skipped.
    """

    phases: tuple[Phase, ...] = (
        Phase(20, {"det": 1.0, "feat": 2.0, "logit": 1.0}),
        Phase(40, {"det": 3.0, "feat": 1.5, "logit": 1.5}),
    )
    feature: FeatureConfig = field(default_factory=FeatureConfig)
    logit: LogitConfig = field(default_factory=LogitConfig)
    response: ResponseConfig = field(default_factory=ResponseConfig)
    bins: BinsConfig = field(default_factory=BinsConfig)
    unlabelled: Literal["boxes", "answers"] = "boxes"
    label_score: float = 0.5
    start: Literal["teacher", "fitting", "model"] | tuple[DetectorPart, ...] = "teacher"
    without_lidar: Literal["use", "skip"] = "use"
    learn_depth: LearnDepthConfig | None = None

    def __post_init__(self) -> None:
        check_phases(self.phases)
        self._check_depth()
        check_each(self, ("label_score",), _below_1, "give a probability below 1")

    def _check_depth(self) -> None:
        """Refuse parts that nothing would learn from."""
        depth = self.learn_depth
        asked = sorted(name for name in self.parts if name.startswith("depth_"))
        if asked and (depth is None or depth.layers == "none"):
            raise ConfigError(
                f"a phase has a weight for {asked[0]}, and no depth network learns: give "
                "learn_depth, with layers decoder or all"
            )
        fades = self.feature.fade_m > 0 and "feat" in self.parts
        if fades and (depth is None or depth.truth != "lidar"):
            raise ConfigError("feature.fade_m needs learn_depth, with truth lidar")

    @property
    def asks_teacher(self) -> bool:
        """Whether anything of a teacher is wanted."""
        return bool(self.parts & COMPARED) or self.start != "model"

    @property
    def answer_threshold(self) -> float:
        """The teacher's best score in an anchor up to which its box and heading aren't read."""
        thresholds = []
        if "response" in self.parts:  # which adds the scores of the classes up
            thresholds.append(self.response.threshold / len(KITTI_CLASSES))
        if "logit" in self.parts or not thresholds:
            thresholds.append(self.logit.threshold)
        return min(thresholds)

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
            answers=bool(self.parts & {"logit", "response"}),
            filled=features and (self.feature.empty != 1 or self.feature.scale == "rms"),
            depth="bins" in self.parts,
            objects=bool(self.parts & {"depth_pixels", "depth_objects"})
            or (features and self.feature.fade_m > 0),
        )


def _below_1(probability: float) -> bool:
    return 0 <= probability < 1
