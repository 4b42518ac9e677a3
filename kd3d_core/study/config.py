"""StudyConfig: what is compared with what, as `config/study/*.yaml` say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from kd3d_core.config import make_config
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError, Kd3dError
from kd3d_core.evaluation.kitti_rules import Strictness, min_overlap
from kd3d_core.models.config import PseudoLidarConfig
from kd3d_core.training.config import DataConfig, ExtraDataConfig

if TYPE_CHECKING:
    from kd3d_core.data.synthetic.dataset import SynthConfig

TEACHER = "teacher"
"""The name of the teacher's run."""

ASSISTANT = "assistant"
"""The name of the teaching assistant's run."""

_NOT_IN_RUNS = ("task", "model", "data", "out", "seed", "points")
"""Settings of a run that the study itself decides."""


@dataclass(frozen=True)
class Metric:
    """A column of the table: AP R40 moderate.

    Attributes:
        class_name: car, pedestrian or cyclist.
        iou: what a right detection exceeds: 0.7 or 0.5 for cars, 0.5 or 0.25 for the others.
        kind: where overlap is measured.
    """

    class_name: Literal["car", "pedestrian", "cyclist"] = "car"
    iou: float = 0.5
    kind: Literal["3d", "bev"] = "3d"

    def __post_init__(self) -> None:
        _ = self.strictness

    @property
    def name(self) -> str:
        """As the table says it."""
        kind = "" if self.kind == "3d" else " BEV"
        return f"{self.class_name}{kind} {self.iou:g}"

    @property
    def validation_name(self) -> str | None:
        """What `kd3d_core.training.validation.average_precision` calls it; None if it doesn't."""
        if self.strictness == "loose" and self.kind == "bev":
            return None
        loose = "_loose" if self.strictness == "loose" else ""
        return f"{self.class_name.capitalize()}_{self.kind}{loose}"

    @property
    def strictness(self) -> Strictness:
        """Which of KITTI's two sets of overlaps has this one; `ConfigError` if none has."""
        kinds: tuple[Strictness, Strictness] = ("strict", "loose")
        known = {kind: min_overlap(kind, self.class_name, self.kind) for kind in kinds}
        for kind in kinds:
            if known[kind] == self.iou:
                return kind
        raise ConfigError(
            f"a metric asks for {self.class_name} at IoU {self.iou}: "
            f"give {known['strict']} or {known['loose']}"
        )


@dataclass(frozen=True)
class RenderConfig:
    """Frames that are rendered first; what is there already is kept.

    Attributes:
        train: settings of a `SynthConfig`, into `data.root`.
        val: the same, into `data.val_root`.
    """

    train: dict[str, Any]
    val: dict[str, Any]

    def __post_init__(self) -> None:
        train, val = self.scenes()
        if train.seed == val.seed:
            raise ConfigError(
                f"render.train and render.val have seed {train.seed}: the frames to validate "
                "on would be among those that are trained on"
            )

    def scenes(self) -> tuple["SynthConfig", "SynthConfig"]:
        """What is rendered to train on, and to validate on."""
        # Not every machine has what renders, and a study of frames that are there doesn't need it.
        try:
            from kd3d_core.data.synthetic.dataset import SynthConfig
        except Kd3dError as error:
            raise ConfigError(f"render: {error}") from None
        return (
            make_config(SynthConfig, self.train, "render.train"),
            make_config(SynthConfig, self.val, "render.val"),
        )


@dataclass(frozen=True)
class _Extra:
    """What a variant may say of its frames."""

    extra: tuple[ExtraDataConfig, ...] = ()


@dataclass(frozen=True)
class StudyConfig:
    """A study: one teacher on true LiDAR, and students on a camera with and without it.

    Attributes:
        out: folder of the study: a folder for each run, and the table.
        data: the frames of all runs.
        detector: what the students are, and the teacher unless `teacher_detector` says otherwise.
        run: settings of a training run that all share.
        variants: by name, what differs in a student's run. Students with a `distill` section are
            taught; others train on labels alone. `extra` is more frames for it, as `data.extra`.
        depth: model (a name or a YAML file) whose depth network makes the pseudo-LiDAR; None for
            students of CMKD, which read none.
        teacher_detector: what the teacher is, if not what the students are.
        teacher: what differs in the teacher's run.
        assistant: what differs in the run of a teaching assistant, which reads true depth at the
            students' pixels; variants with `teacher: {points: true_depth}` have it for a teacher.
            None has none.
        teacher_seed: of the teacher's run and the assistant's; there is one of each.
        seeds: of the students' runs; variants with the same seed see the same frames in the same
            order.
        control: the variant that the others are compared with.
        metrics: columns of the table.
        pseudo_lidar: how depth becomes points.
        render: frames to render first; None takes those that are there.
    """

    out: str
    data: DataConfig
    detector: DetectorConfig
    run: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    depth: str | None = None
    teacher_detector: DetectorConfig | None = None
    teacher: dict[str, Any] = field(default_factory=dict)
    assistant: dict[str, Any] | None = None
    teacher_seed: int = 0
    seeds: tuple[int, ...] = (0, 1, 2)
    control: str = "control"
    metrics: tuple[Metric, ...] = (
        Metric("car", 0.7),
        Metric("car", 0.5),
        Metric("pedestrian", 0.5),
        Metric("cyclist", 0.5),
    )
    pseudo_lidar: PseudoLidarConfig = field(default_factory=PseudoLidarConfig)
    render: RenderConfig | None = None

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds is {list(self.seeds)}: give one or more, each once")
        if not self.metrics:
            raise ConfigError("metrics is empty: give at least one, or leave it out")
        if self.control not in self.variants:
            raise ConfigError(
                f"control is {self.control}, and variants has {', '.join(self.variants)}: the "
                "control must be one of them"
            )
        for name, changes in self.variants.items():
            if not name.replace("-", "_").isidentifier() or name in (TEACHER, ASSISTANT):
                raise ConfigError(
                    f"a variant is called {name!r}: give a word other than {TEACHER} and "
                    f"{ASSISTANT}"
                )
            _check_settings(f"variants.{name}", changes)
            _ = self.frames_of(name)
        _check_settings("run", self.run)
        _check_settings("teacher", self.teacher)
        _check_settings("assistant", self.assistant or {})
        if any(
            "distill" in settings for settings in (self.teacher, self.assistant or {}, self.run)
        ):
            raise ConfigError("distill belongs to a variant: the teacher and the control have none")
        self._check_detectors()
        if self.data.val is None and self.data.val_root is None:
            raise ConfigError("data names no val and no val_root: a study needs other frames")
        if self.render is not None and self.data.val_root is None:
            raise ConfigError("render needs data.val_root: the folder for render.val")

    def _check_detectors(self) -> None:
        if self.detector.reads_image_alone == (self.depth is not None):
            raise ConfigError(
                f"depth is {self.depth}, and the students are {self.detector.type}: leave it out "
                "for students of CMKD, which make no pseudo-LiDAR, and give it for all others"
            )
        teacher = self.teacher_detector or self.detector
        if teacher.reads_image_alone:
            raise ConfigError(
                f"the teacher would be {teacher.type}, which reads no LiDAR: give teacher_detector"
            )

    def frames_of(self, variant: str) -> DataConfig:
        """The frames that a variant trains on, with its `extra`."""
        more = {"extra": self.variants[variant].get("extra", [])}
        extra = make_config(_Extra, more, f"variants.{variant}").extra
        return replace(self.data, extra=(*self.data.extra, *extra))

    @property
    def references(self) -> tuple[str, ...]:
        """The names of the runs that teach."""
        return (TEACHER,) if self.assistant is None else (TEACHER, ASSISTANT)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `changes`; settings within settings are merged too."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def _check_settings(where: str, settings: Mapping[str, Any]) -> None:
    taken = [key for key in _NOT_IN_RUNS if key in settings]
    if taken:
        raise ConfigError(f"{where} has {', '.join(taken)}: the study itself decides that")
