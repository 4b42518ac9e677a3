"""What a configuration file says about a detector; importing it costs nothing."""

from dataclasses import dataclass, field, replace
from typing import Literal

from kd3d_core.classes import KITTI_CLASSES
from kd3d_core.config import ADDED
from kd3d_core.errors import ConfigError, shown
from kd3d_core.geometry.window import WindowConfig

Range = tuple[float, float, float, float, float, float]
"""x_min, y_min, z_min, x_max, y_max, z_max in metres, detector frame."""


ClassLoss = Literal["focal", "quality_focal"]
DetectorType = Literal[
    "mvxnet",
    "lite",
    "edge",
    "second",
    "pointpillars",
    "cmkd_kitti",
    "cmkd_lite",
    "cmkd_tiny",
    "cmkd_assistant_lite",
    "cmkd_assistant_tiny",
    "cmkd_teacher_second",
    "cmkd_teacher_pillars",
    "cmkd_teacher_lite",
    "cmkd_teacher_tiny",
]
_LIGHT = ("resnet18", "efficientnet_lite0", "glpn_b0")
_ENCODERS = {
    "edge": ("efficientnet_lite0",),
    "cmkd_kitti": ("resnet50",),
    "cmkd_lite": _LIGHT,
    "cmkd_tiny": _LIGHT,
    "cmkd_assistant_lite": _LIGHT,
    "cmkd_assistant_tiny": _LIGHT,
}
"""By type, what may read the image; the first is the default."""


@dataclass(frozen=True)
class ImageSideConfig:
    """What reads the image: the camera's half of a student of CMKD, and of `edge`.

    Attributes:
        encoder: `resnet50` for `cmkd_kitti`; `efficientnet_lite0` for `edge`; `resnet18`,
            `efficientnet_lite0` or `glpn_b0` for the others. `glpn_b0` is a whole depth network,
            whose answer the distribution begins with.
        weights: what a training of random detector weights starts with here: `random`, `imagenet`
            for `efficientnet_lite0`, a name from `config/weights.yaml` or a file of torchvision's
            for ResNets, a folder with a GLPN of size B0 for `glpn_b0`. Weights of a trained
            detector hold the image side too.
        frozen: whether training leaves the encoder as it is.
    """

    encoder: Literal["resnet50", "resnet18", "efficientnet_lite0", "glpn_b0"]
    weights: str = "random"
    frozen: bool = False


@dataclass(frozen=True)
class DecodeConfig:
    """How many boxes, and which.

    Attributes:
        score_threshold: lowest score of a box.
        nms_iou: bird's-eye-view IoU from which the weaker of two boxes of a class goes.
        pre_nms: anchors per sample that are looked at, best first.
        max_boxes: boxes per sample.
    """

    score_threshold: float = 0.1
    nms_iou: float = 0.01
    pre_nms: int = 100
    max_boxes: int = 50


@dataclass(frozen=True)
class DetectorConfig:
    """A detector.

    Attributes:
        type: which design; `second`, `pointpillars` and `cmkd_teacher_*` read points alone, and
            `cmkd_kitti`, `cmkd_lite` and `cmkd_tiny` images alone. `cmkd_assistant_*` are those
            with the true depth of points: they teach them, as `type: lidar`.
        weights: a name from `config/weights.yaml`, a `.safetensors` or mmdet3d `.pth` file, or
            `random`.
        window: what the detector sees of the image. For types that see none, the depth model's
            window costs nothing.
        classes: KITTI's class names, in the order of the anchors: `KITTI_CLASSES`.
        decoding: thresholds and counts.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max in metres of what the detector
            sees; None is the design's own. A smaller one is quicker, and boxes beyond it are
            neither learnt nor found.
        class_loss: what scores learn from labels: `focal`, whether an object is there, or
            `quality_focal`, how much the box found there overlaps it. None is the design's own.
        image_side: what reads the image, for `edge`, students of CMKD and their assistants.
    """

    type: DetectorType
    weights: str
    window: WindowConfig
    classes: tuple[str, ...] = KITTI_CLASSES
    decoding: DecodeConfig = field(default_factory=DecodeConfig)
    point_cloud_range: Range | None = None
    class_loss: ClassLoss | None = field(default=None, metadata=ADDED)
    image_side: ImageSideConfig | None = field(default=None, metadata=ADDED)

    def __post_init__(self) -> None:
        if self.classes != KITTI_CLASSES:
            raise ConfigError(
                f"detector.classes is {shown(', '.join(self.classes))}: anchors and weights are "
                f"for {', '.join(KITTI_CLASSES)}, in this order"
            )
        self._check_image_side()

    def _check_image_side(self) -> None:
        encoders = _ENCODERS.get(self.type)
        if encoders is None:
            if self.image_side is not None:
                raise ConfigError(
                    f"detector.image_side is only for {', '.join(_ENCODERS)}: leave it out for "
                    f"{self.type}"
                )
            return
        if self.image_side is not None and self.image_side.encoder not in encoders:
            raise ConfigError(
                f"detector.image_side.encoder is {self.image_side.encoder}: {self.type} has "
                f"{' or '.join(encoders)}"
            )
        height, width = self.window.size
        if self.window.mode == "fit" or height % 32 or width % 32:
            raise ConfigError(
                f"detector.window is {self.window.mode} of {[height, width]}: {self.type} needs "
                "crop or letterbox, and multiples of 32"
            )

    @property
    def reads_image_alone(self) -> bool:
        """Whether it is a student of CMKD."""
        return self.type in ("cmkd_kitti", "cmkd_lite", "cmkd_tiny")

    @property
    def used_image_side(self) -> ImageSideConfig:
        """The `image_side`, or that which the type has by default."""
        return self.image_side or ImageSideConfig(_ENCODERS[self.type][0])  # type: ignore[arg-type]

    def with_weights(self, weights: str) -> "DetectorConfig":
        """The same with the weights of a trained network, which hold all of its parts."""
        side = self.image_side
        return replace(
            self,
            weights=weights,
            image_side=None if side is None else replace(side, weights="random"),
        )
