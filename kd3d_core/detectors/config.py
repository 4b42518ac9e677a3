"""What a configuration file says about a detector; importing it costs nothing."""

from dataclasses import dataclass, field
from typing import Literal

from kd3d_core.classes import KITTI_CLASSES
from kd3d_core.errors import ConfigError, shown
from kd3d_core.geometry.window import WindowConfig

Range = tuple[float, float, float, float, float, float]
"""x_min, y_min, z_min, x_max, y_max, z_max in metres, detector frame."""


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
        type: which design; `second` and `pointpillars` read points alone.
        weights: a name from `config/weights.yaml`, a `.safetensors` or mmdet3d `.pth` file, or
            `random`.
        window: what the detector sees of the image. For types that see none, the depth model's
            window costs nothing.
        classes: KITTI's class names, in the order of the anchors: `KITTI_CLASSES`.
        decoding: thresholds and counts.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max in metres of what the detector
            sees; None is the design's own. A smaller one is quicker, and boxes beyond it are
            neither learnt nor found.
    """

    type: Literal["mvxnet", "lite", "second", "pointpillars"]
    weights: str
    window: WindowConfig
    classes: tuple[str, ...] = KITTI_CLASSES
    decoding: DecodeConfig = field(default_factory=DecodeConfig)
    point_cloud_range: Range | None = None

    def __post_init__(self) -> None:
        if self.classes != KITTI_CLASSES:
            raise ConfigError(
                f"detector.classes is {shown(', '.join(self.classes))}: anchors and weights are "
                f"for {', '.join(KITTI_CLASSES)}, in this order"
            )
