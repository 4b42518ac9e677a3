"""PointPillars (Lang et al., 2019): SECOND on pillars, hence without sparse convolution."""

from dataclasses import replace

from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.config import DecodeConfig, Range
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.pillars import PillarEncoder, PillarScatter
from kd3d_core.detectors.second import KITTI_ANCHORS, PointDetector
from kd3d_core.detectors.voxels import checked_grid

RANGE: Range = (0.0, -39.68, -3.0, 69.12, 39.68, 1.0)
PEDESTRIAN, CYCLIST, CAR = KITTI_ANCHORS
ANCHORS = (
    replace(PEDESTRIAN, positive_iou=0.5, negative_iou=0.35),
    replace(CYCLIST, positive_iou=0.5, negative_iou=0.35),
    CAR,
)


def pointpillars(decoding: DecodeConfig, point_cloud_range: Range = RANGE) -> PointDetector:
    """PointPillars for KITTI, as mmdet3d has it."""
    grid = checked_grid((0.16, 0.16, 4.0), point_cloud_range, layers=1, stride=8)
    anchors = Anchors(point_cloud_range, ANCHORS, centred=True)
    return PointDetector(
        grid,
        decoding,
        max_points=32,
        backbone=BevBackbone(64, channels=(64, 128, 256), layers=(3, 5, 5), strides=(2, 2, 2)),
        neck=BevNeck((64, 128, 256), channels=(128, 128, 128), strides=(1, 2, 4)),
        head=AnchorHead(384, anchors, assign_per_class=True),
        voxel_encoder=PillarEncoder(grid, 64),
        middle_encoder=PillarScatter(grid),
    )
