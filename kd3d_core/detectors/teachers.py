"""Teachers of CMKD: detectors on LiDAR whose bird's-eye view is one that a student can make."""

from typing import ClassVar

import torch
from torch.nn import functional

from kd3d_core.detectors.anchor_detector import BevInput, DetectorInput
from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.config import DecodeConfig, Range
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.pillars import MeanEncoder, PillarEncoder, PillarScatter
from kd3d_core.detectors.pointpillars import ANCHORS as CMKD_ANCHORS
from kd3d_core.detectors.second import KITTI_ANCHORS, KITTI_RANGE, PointDetector
from kd3d_core.detectors.sparse import ResidualSparseEncoder
from kd3d_core.detectors.voxels import checked_grid

CMKD_RANGE: Range = (2.0, -30.08, -3.0, 46.8, 30.08, 1.0)
"""What CMKD's students see; a teacher may have learnt on a larger one."""

# Most of a pillar's places are empty, so the variance is a thousandth of what the norm begins with:
# with 0.01, that would still be in it after 500 steps, and nothing be found outside of training.
_MOMENTUM = 0.1

__all__ = ["CMKD_ANCHORS", "CMKD_RANGE", "PillarTeacher"]


class PillarTeacher(PointDetector):
    """Pillars, and convolutions that halve their resolution before the backbone.

    What these make is the map that a student is compared with: other than the pillars themselves it
    spreads beyond cells that hold points.
    """

    stem_stride: ClassVar[int] = 2

    def bev_input(self, frames: DetectorInput) -> BevInput:
        """Points in pillars, then the stem."""
        pillars = super().bev_input(frames).canvas
        filled = (pillars != 0).any(1, keepdim=True)
        coarse = functional.max_pool2d(filled.float(), self.stem_stride) > 0
        (canvas,) = self.network["stem"](pillars)
        return BevInput(canvas, filled=coarse)

    def empty_canvas(self) -> torch.Tensor:
        """The stem's answer to pillars without a point; it isn't 0."""
        _, rows, columns = self.grid.shape
        stem = self.network["stem"]
        weight = next(stem.parameters())
        (canvas,) = stem(weight.new_zeros(1, weight.shape[1], rows, columns))
        return canvas


def cmkd_teacher_pillars(
    decoding: DecodeConfig, point_cloud_range: Range = CMKD_RANGE
) -> PillarTeacher:
    """CMKD's pillar teacher for KITTI: pillars of 0.16 m, a map of 0.32 m."""
    return _pillar_teacher(
        decoding,
        Anchors(point_cloud_range, CMKD_ANCHORS),
        pillar=0.16,
        pillar_channels=128,
        channels=128,
        layers=(5, 5, 5),
        neck_channels=256,
    )


def cmkd_teacher_lite(
    decoding: DecodeConfig, point_cloud_range: Range = KITTI_RANGE, cell: float = 0.4
) -> PillarTeacher:
    """The teacher of `cmkd_lite`: pillars of half its cells."""
    return _pillar_teacher(
        decoding,
        Anchors(point_cloud_range, KITTI_ANCHORS),
        pillar=cell / 2,
        pillar_channels=32,
        channels=64,
        layers=(2, 2, 3),
        neck_channels=64,
    )


def cmkd_teacher_tiny(
    decoding: DecodeConfig, point_cloud_range: Range = KITTI_RANGE
) -> PillarTeacher:
    """The teacher of `cmkd_tiny`."""
    return cmkd_teacher_lite(decoding, point_cloud_range, cell=0.8)


def _pillar_teacher(
    decoding: DecodeConfig,
    anchors: Anchors,
    *,
    pillar: float,
    pillar_channels: int,
    channels: int,
    layers: tuple[int, int, int],
    neck_channels: int,
) -> PillarTeacher:
    """A teacher with pillars of so many metres; `layers` of the stem and the backbone's stages."""
    grid = checked_grid((pillar, pillar, 4.0), anchors.point_cloud_range, layers=1, stride=4)
    stem_layers, *backbone_layers = layers
    scales = (channels, 2 * channels)
    head = AnchorHead(2 * neck_channels, anchors, assign_per_class=True, class_loss="quality_focal")
    teacher = PillarTeacher(
        grid,
        decoding,
        max_points=32,
        backbone=BevBackbone(channels, channels=scales, layers=backbone_layers, strides=(1, 2)),
        neck=BevNeck(scales, channels=(neck_channels, neck_channels), strides=(1, 2)),
        head=head,
        voxel_encoder=PillarEncoder(grid, pillar_channels, _MOMENTUM),
        middle_encoder=PillarScatter(grid),
    )
    stem = BevBackbone(pillar_channels, channels=(channels,), layers=(stem_layers,), strides=(2,))
    teacher.network["stem"] = stem
    return teacher


def cmkd_teacher_second(
    decoding: DecodeConfig, point_cloud_range: Range = CMKD_RANGE
) -> PointDetector:
    """CMKD's SECOND for KITTI: voxels of 0.04 m, a residual sparse encoder with 64 channels."""
    grid = checked_grid((0.04, 0.04, 0.1), point_cloud_range, layers=40, stride=16)
    return PointDetector(
        grid,
        decoding,
        max_points=5,
        max_voxels_train=20_000,
        backbone=BevBackbone(128, channels=(128, 256), layers=(5, 5), strides=(1, 2)),
        neck=BevNeck((128, 256), channels=(256, 256), strides=(1, 2)),
        head=AnchorHead(
            512, Anchors(point_cloud_range, CMKD_ANCHORS), assign_per_class=True,
            class_loss="quality_focal",
        ),
        voxel_encoder=MeanEncoder(),
        middle_encoder=ResidualSparseEncoder(4, grid.shape, 64),
    )  # fmt: skip
