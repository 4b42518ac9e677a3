"""lite: MVX-Net's design for CPUs and small robots.

ResNet-18 without its last stage (three quarters of its weights, and coarser than a distant car) on
a 192 x 640 image, pillars instead of voxels (so no sparse convolution), and the same detector
frame, BEV grid of 0.4 m, anchors and head as MVX-Net.
"""

from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.config import DecodeConfig, Range
from kd3d_core.detectors.fusion import FusionSizes, VoxelFeatureEncoder
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.image import FPN, ResNet
from kd3d_core.detectors.mvxnet import FusionDetector, ImageNormalization
from kd3d_core.detectors.second import KITTI_ANCHORS, KITTI_RANGE
from kd3d_core.detectors.voxels import checked_grid

IMAGENET = ImageNormalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), bgr=False)
"""torchvision's, for its ResNet-18."""


def lite(
    decoding: DecodeConfig,
    point_cloud_range: Range = KITTI_RANGE,
    pillar: tuple[float, float, float] = (0.2, 0.2, 4.0),
) -> FusionDetector:
    """lite, for pillars of any size in metres."""
    grid = checked_grid(pillar, point_cloud_range, layers=1, stride=4)
    return FusionDetector(
        grid,
        decoding,
        IMAGENET,
        voxel_encoder=VoxelFeatureEncoder(grid, (32,), FusionSizes(3, 64, 32, 32)),
        middle_encoder=None,
        backbone=BevBackbone(32, channels=(64, 128), layers=(2, 3), strides=(2, 2)),
        neck=BevNeck((64, 128), channels=(64, 64), strides=(1, 2)),
        head=AnchorHead(128, Anchors(point_cloud_range, KITTI_ANCHORS), assign_per_class=True),
        image_backbone=ResNet(18, stages=3),
        image_neck=FPN((64, 128, 256), 64, levels=3),
    )
