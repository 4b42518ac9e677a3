"""TrainConfig: everything a run depends on, as `config/train/*.yaml` say it."""

from dataclasses import dataclass, field
from typing import Literal

from kd3d_core.data.augment import AugmentConfig
from kd3d_core.distill.config import DistillConfig, TeacherConfig
from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class DataConfig:
    """Which frames.

    Attributes:
        root: folder in KITTI's layout.
        train: file with the names of the frames to train on, in `root` or wherever; None takes
            all.
        val: the same for validation; None takes all of `val_root`. With neither, validation is on
            the frames that are trained on, and says so.
        val_root: folder of the frames for validation, if it isn't `root`.
    """

    root: str
    train: str | None = None
    val: str | None = None
    val_root: str | None = None


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
        if not self.lr > 0:
            raise ConfigError(f"lr is {self.lr}: it must be above 0")
        for name in ("weight_decay", "clip"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: it can't be negative")
        if not 0 <= self.warmup < 1 or not 0 <= self.ema < 1:
            raise ConfigError("warmup and ema must be in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Attributes:
        task: `depth` trains the model's depth network on LiDAR depth; `detector` its detector;
            `distill` its detector, by a teacher.
        model: name in `config/models`, or a YAML file.
        data: the frames.
        out: folder of the run: checkpoints, logs, resolved configuration.
        points: what a detector reads: the true LiDAR, or pseudo-LiDAR of the model's depth network.
        window_scale: for `depth`, the resolution to train at, as a share of the model's own. A run
            at 0.5 has four times as many steps in its time; another goes on from its model at 1.
        epochs: passes over the frames.
        batch_size: frames per step and process.
        workers: processes that load frames.
        seed: of weights, order and augmentation.
        precision: of the networks; `auto` is bf16 on CUDA and fp32 elsewhere. bf16 also halves the
            time on CPUs with AMX.
        sync_norms: whether batch norms use the frames of all processes, so that N processes learn
            what one with an N times larger batch would; without, each uses its own.
        optimizer: how to step.
        augment: how frames may change; None leaves them as they are.
        teacher: who teaches, for `distill`.
        distill: what is taught, for `distill`; None takes the defaults.
        validate_every: epochs between validations.
        checkpoint_every: steps between checkpoints, besides the one of each epoch.
    """

    task: Literal["depth", "detector", "distill"]
    model: str
    data: DataConfig
    out: str
    points: Literal["lidar", "pseudo"] = "lidar"
    window_scale: float = 1.0
    epochs: int = 80
    batch_size: int = 2
    workers: int = 1
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    sync_norms: bool = True
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig | None = None
    teacher: TeacherConfig | None = None
    distill: DistillConfig | None = None
    validate_every: int = 10
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("workers", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: it can't be negative")
        if self.window_scale != 1 and (self.task != "depth" or not 0 < self.window_scale < 1):
            raise ConfigError(
                f"window_scale is {self.window_scale}: it must be above 0 and at most 1, and 1 for "
                "any task but depth"
            )
        if self.task == "distill" and self.teacher is None:
            raise ConfigError(
                "task distill needs a teacher: {model: a YAML file with trained weights}"
            )
        if self.task != "distill" and (self.teacher is not None or self.distill is not None):
            raise ConfigError(f"task {self.task} takes no teacher and no distill: use task distill")
