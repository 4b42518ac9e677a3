"""SECOND (Yan et al., 2018), and what detectors on points alone share."""

import torch

from kd3d_core.detectors.anchor_detector import AnchorDetector, BevInput, DetectorInput
from kd3d_core.detectors.anchors import Anchors, ClassAnchor
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.config import DecodeConfig, Range
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.pillars import MeanEncoder, PillarEncoder, PillarScatter
from kd3d_core.detectors.sparse import ResidualSparseEncoder, SparseEncoder
from kd3d_core.detectors.voxels import FilledVoxels, VoxelGrid, checked_grid, fill_voxels

KITTI_RANGE: Range = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
KITTI_ANCHORS = (
    ClassAnchor((0.8, 0.6, 1.73), bottom=-0.6, positive_iou=0.35, negative_iou=0.2),
    ClassAnchor((1.76, 0.6, 1.73), bottom=-0.6, positive_iou=0.35, negative_iou=0.2),
    ClassAnchor((3.9, 1.6, 1.56), bottom=-1.78, positive_iou=0.6, negative_iou=0.45),
)
"""Pedestrian, Cyclist, Car."""


class PointDetector(AnchorDetector):
    """A detector on points, of the parts of mmdet3d's `VoxelNet`; it ignores the image.

    Voxels hold their first points and there is a limit to their number, a lower one in training,
    all as upstream has it. The number of voxels has to be known on the host.
    """

    reads_image = False

    def __init__(
        self,
        grid: VoxelGrid,
        decoding: DecodeConfig,
        *,
        max_points: int,
        max_voxels_train: int = 16_000,
        max_voxels_test: int = 40_000,
        backbone: BevBackbone,
        neck: BevNeck,
        head: AnchorHead,
        voxel_encoder: MeanEncoder | PillarEncoder,
        middle_encoder: SparseEncoder | ResidualSparseEncoder | PillarScatter,
    ) -> None:
        network = {
            "backbone": backbone,
            "neck": neck,
            "bbox_head": head,
            "voxel_encoder": voxel_encoder,
            "middle_encoder": middle_encoder,
        }
        super().__init__(grid, decoding, network)
        self.max_points = max_points
        self.max_voxels_train, self.max_voxels_test = max_voxels_train, max_voxels_test

    def bev_input(self, frames: DetectorInput) -> BevInput:
        """Points in voxels, without the image."""
        batch_size = len(frames.image_from_lidar)
        voxels = self.voxels(frames.points, frames.samples, frames.valid, batch_size)
        features = self.network["voxel_encoder"](voxels)
        return BevInput(self.network["middle_encoder"](features, voxels.coords, batch_size))

    def voxels(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        valid: torch.Tensor | None,
        batch_size: int,
    ) -> FilledVoxels:
        """The voxels of a batch; see `DetectorInput`.

        In training points come in random order, as in upstream's pipeline: the voxels beyond the
        limit would else always be those of the same place, such as the lower rows of an image.
        """
        if self.training:
            order = torch.randperm(len(points), device=points.device)
            points, samples = points[order], samples[order]
            valid = None if valid is None else valid[order]
        limit = self.max_voxels_train if self.training else self.max_voxels_test
        return fill_voxels(points, samples, valid, batch_size, self.grid, self.max_points, limit)


def second(decoding: DecodeConfig, point_cloud_range: Range = KITTI_RANGE) -> PointDetector:
    """SECOND for KITTI, as mmdet3d has it: the mean of each voxel's points, sparse convolution."""
    grid = checked_grid((0.05, 0.05, 0.1), point_cloud_range, layers=40, stride=16)
    return PointDetector(
        grid,
        decoding,
        max_points=5,
        backbone=BevBackbone(256, channels=(128, 256), layers=(5, 5), strides=(1, 2)),
        neck=BevNeck((128, 256), channels=(256, 256), strides=(1, 2)),
        head=AnchorHead(512, Anchors(point_cloud_range, KITTI_ANCHORS), assign_per_class=False),
        voxel_encoder=MeanEncoder(),
        middle_encoder=SparseEncoder(4, grid.shape),
    )
