"""edge: MVX-Net's design in a quarter of lite's arithmetic, for CPUs.

The image is read by EfficientNet-Lite0, whose weights were trained on photographs: frozen, they see
real streets no worse for having been trained here on rendered ones. The bird's-eye view ends where
one camera can't place a car any more, and its maps have three quarters of lite's channels.
"""

from kd3d_core.depth.efficientnet import EfficientNetLite0
from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.config import DecodeConfig, ImageSideConfig, Range
from kd3d_core.detectors.fusion import FusionSizes, VoxelFeatureEncoder
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.image import FPN
from kd3d_core.detectors.mvxnet import FusionDetector, ImageNormalization
from kd3d_core.detectors.second import KITTI_ANCHORS
from kd3d_core.detectors.voxels import checked_grid

EDGE_RANGE: Range = (0.0, -25.6, -3.0, 51.2, 25.6, 1.0)

_TO_ONE = ImageNormalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), bgr=False)
_LEVELS = slice(1, 4)  # of stride 4, 8 and 16


def edge(
    decoding: DecodeConfig, side: ImageSideConfig, point_cloud_range: Range = EDGE_RANGE
) -> FusionDetector:
    """edge, with pillars of 0.2 m and cells of 0.4 m."""
    grid = checked_grid((0.2, 0.2, 4.0), point_cloud_range, layers=1, stride=4)
    return FusionDetector(
        grid,
        decoding,
        _TO_ONE,
        voxel_encoder=VoxelFeatureEncoder(grid, (32,), FusionSizes(3, 32, 32, 32)),
        middle_encoder=None,
        backbone=BevBackbone(32, channels=(48, 96), layers=(2, 3), strides=(2, 2)),
        neck=BevNeck((48, 96), channels=(48, 48), strides=(1, 2)),
        head=AnchorHead(96, Anchors(point_cloud_range, KITTI_ANCHORS), assign_per_class=True),
        image_backbone=EfficientNetLite0(_LEVELS, frozen=side.frozen),
        image_neck=FPN(EfficientNetLite0.channels[_LEVELS], 32, levels=3),
    )
