"""TrainConfig: everything that a run depends on, as `config/train/*.yaml` say it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kd3d_core.config import ADDED, check_each, make_config, read_settings
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.devices import Precision
from kd3d_core.distill.config import DistillConfig, TeacherConfig
from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class ExtraDataConfig:
    """More frames to train on, from another folder.

    Attributes:
        root: folder in KITTI's layout.
        train: file with the names of the frames, in `root` or wherever; None takes all.
        share: share of all frames of an epoch that come from here. In each epoch others come, until
            all were seen.
        use_labels: whether label files count, where there are any. What a frame without labels
            teaches then, `distill.unlabelled` says.
        augment: how these frames may change; None takes the run's `augment`.
    """

    root: str
    share: float
    train: str | None = None
    use_labels: bool = True
    augment: AugmentConfig | None = None

    def __post_init__(self) -> None:
        if self.augment is not None and self.augment.sample_objects:
            raise ConfigError(
                "data.extra has augment.sample_objects, which is for all frames: set it in the "
                "run's own augment"
            )
        if not 0 < self.share < 1:
            raise ConfigError(f"data.extra has share {self.share}: give a number between 0 and 1")


@dataclass(frozen=True)
class DataConfig:
    """The frames of a run.

    Attributes:
        root: folder in KITTI's layout.
        train: file with the names of the frames to train on, in `root` or wherever; None takes
            all.
        val: the same for validation; None takes all of `val_root`. With neither, and no
            `val_share`, validation is on the frames that are trained on, and says so.
        val_root: folder of the frames for validation, if it isn't `root`.
        val_share: share of the frames of `root` that are held back for validation where nothing
            else is named; whole drives, as far as they can be told apart.
        extra: more frames to train on, with or without labels. All frames of `root` are seen in
            every epoch; the shares of the others say how many of theirs come beside them.
        mix: where the shares hold: over each `epoch`, while batches are drawn from all frames, or
            in each `batch`, so that every one has its frames of `root` and of each of the others.
    """

    root: str
    train: str | None = None
    val: str | None = None
    val_root: str | None = None
    val_share: float = 0.0
    extra: tuple[ExtraDataConfig, ...] = ()
    mix: Literal["epoch", "batch"] = "epoch"

    def __post_init__(self) -> None:
        check_each(
            self, ("val_share",), lambda share: 0 <= share < 1, "give 0 or more, below 1", "data"
        )
        if sum(extra.share for extra in self.extra) >= 1:
            raise ConfigError("data.extra: the shares must sum up to less than 1")
        if self.mix == "batch" and not self.extra:
            raise ConfigError("data.mix is batch, and data.extra has nothing to mix: leave it out")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its schedule.

    Attributes:
        lr: highest learning rate.
        weight_decay: of matrices; biases and norms have none.
        schedule: `one_cycle` rises to `lr` and falls; `cosine` warms up and falls.
        warmup: share of the steps in which the rate rises.
        clip: largest norm of the gradients; 0 doesn't clip.
        ema: decay per step of the averaged weights, which are those that are validated and
            exported; 0 doesn't average.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup: float = 0.2
    clip: float = 10.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        check_each(self, ("lr",), lambda value: value > 0, "it must be above 0")
        check_each(self, ("weight_decay", "clip"), lambda value: value >= 0, "it can't be negative")
        check_each(self, ("warmup", "ema"), lambda share: 0 <= share < 1, "give 0 or more, below 1")


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        task: `depth` trains the model's depth network on LiDAR depth; `detector` its detector;
            `distill` its detector, and its depth network if asked to, by a teacher, by LiDAR and
            by labels.
        model: name in `config/models`, or a YAML file.
        data: the frames.
        out: folder of the run: checkpoints, logs, resolved configuration.
        points: what a detector reads: the true LiDAR, pseudo-LiDAR of the model's depth network, or
            as a teaching assistant that of `true_depth`, LiDAR's at pixels near to its returns.
        window_scale: for `depth`, the resolution to train at, as a share of the model's own. A run
            at 0.5 has four times as many steps in its time; another goes on from its model at 1.
        epochs: passes over the frames of `data.root`.
        batch_size: frames per step and process.
        workers: processes that load frames.
        seed: of weights, order and augmentation.
        precision: of the networks; `auto` is bf16 on GPUs and CPUs that compute in it, else fp16
            on a GPU and fp32 on a CPU.
        sync_norms: whether batch norms use the frames of all processes, so that N processes learn
            what one with an N times larger batch would; without, each uses its own.
        optimizer: how to step.
        augment: how frames may change; None leaves them as they are.
        teacher: who teaches, for `distill`; None if no part of the loss asks one.
        distill: what is taught, for `distill`; None takes the defaults.
        validate_every: epochs between validations.
        checkpoint_every: steps between checkpoints, besides the one of each epoch.
        threads: CPU threads that a process computes with; 0 leaves it to OMP_NUM_THREADS and the
            machine.
    """

    task: Literal["depth", "detector", "distill"]
    model: str
    data: DataConfig
    out: str
    points: Literal["lidar", "pseudo", "true_depth"] = "lidar"
    window_scale: float = 1.0
    epochs: int = 80
    batch_size: int = 2
    workers: int = 1
    seed: int = 0
    precision: Precision = "auto"
    sync_norms: bool = True
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig | None = None
    teacher: TeacherConfig | None = None
    distill: DistillConfig | None = None
    validate_every: int = 10
    checkpoint_every: int = 200
    threads: int = field(default=0, metadata=ADDED)

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "validate_every", "checkpoint_every")
        check_each(self, counts, lambda value: value >= 1, "it must be at least 1")
        others = ("workers", "seed", "threads")
        check_each(self, others, lambda value: value >= 0, "it can't be negative")
        if self.window_scale != 1 and (self.task != "depth" or not 0 < self.window_scale < 1):
            raise ConfigError(
                f"window_scale is {self.window_scale}: it must be above 0 and at most 1, and 1 for "
                "any task but depth"
            )
        settings = self.distill or DistillConfig()
        if self.task == "distill" and self.teacher is None and settings.asks_teacher:
            raise ConfigError(
                "task distill needs a teacher: {model: a YAML file with trained weights}; without "
                "one, give distill.start: model and phases with neither feat nor logit"
            )
        if self.task == "distill" and settings.learn_depth is not None:
            self._check_learn_depth(settings)
        if self.task != "distill" and (self.teacher is not None or self.distill is not None):
            raise ConfigError(f"task {self.task} takes no teacher and no distill: use task distill")
        if self.per_batch is not None and (
            min(self.per_batch) < 1 or sum(self.per_batch) != self.batch_size
        ):
            shares = ", ".join(f"{extra.share:g}" for extra in self.data.extra)
            raise ConfigError(
                f"data.mix is batch, and a batch of {self.batch_size} can't hold the shares "
                f"{shares} of data.extra beside frames of data.root: give shares that are whole "
                "numbers of its frames, such as 0.75 of 4"
            )

    @property
    def per_batch(self) -> tuple[int, ...] | None:
        """How many frames of `data.root` and each of `data.extra` a batch has; None: by chance."""
        if self.data.mix == "epoch":
            return None
        others = [extra.share * self.batch_size for extra in self.data.extra]
        whole = [round(count) if abs(count - round(count)) < 1e-6 else 0 for count in others]
        return (self.batch_size - sum(whole), *whole)

    def _check_learn_depth(self, settings: DistillConfig) -> None:
        if self.points != "pseudo":
            raise ConfigError(
                f"distill.learn_depth needs points: pseudo, and points is {self.points}"
            )
        if self.teacher is not None and self.teacher.points == "pseudo":
            raise ConfigError(
                "distill.learn_depth changes the pseudo-LiDAR in every step: let teacher.points be "
                "lidar or true_depth"
            )
        if self.augment is not None and self.augment.image_scale != (1.0, 1.0):
            raise ConfigError(
                "augment.image_scale must be [1, 1] with distill.learn_depth: a zoom changes what "
                "is metric"
            )


def load_train_config(path: Path | str, changes: Sequence[str] = ()) -> TrainConfig:
    """The run that a YAML file describes; see `kd3d_core.config.load_config`."""
    return make_train_config(read_settings(path, changes), path)


def make_train_config(values: dict[str, Any], source: Path | str) -> TrainConfig:
    """The run that plain values describe; those of older versions too.

    Raises:
        ConfigError: a key is unknown, missing or of the wrong type; names `source` and key.
    """
    distill = values.get("distill")
    if isinstance(distill, dict) and isinstance(distill.get("phases"), list):
        phases = [_with_weights(phase) for phase in distill["phases"]]
        values = {**values, "distill": {**distill, "phases": phases}}
    return make_config(TrainConfig, values, source)


def _with_weights(phase: Any) -> Any:
    """A phase of older versions, whose weights stood beside `until_epoch`, as it is now."""
    old = {"det": 1.0, "feat": 0.0, "logit": 0.0}
    if not isinstance(phase, dict) or "weights" in phase or not old.keys() & phase.keys():
        return phase
    rest = {key: value for key, value in phase.items() if key not in old}
    return {**rest, "weights": {name: phase.get(name, value) for name, value in old.items()}}
