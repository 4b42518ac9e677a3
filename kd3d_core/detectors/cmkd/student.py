"""CMKD's student: an image, lifted into the bird's-eye view that a LiDAR teacher has."""

from typing import Any, ClassVar

import torch
from torch import nn

from kd3d_core.detectors.anchor_detector import AnchorDetector, BevInput, DetectorInput
from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.cmkd.bins import DepthBins
from kd3d_core.detectors.cmkd.encoders import ENCODERS, STRIDE
from kd3d_core.detectors.cmkd.image_side import DeepLabSide, ImageSide, LightSide
from kd3d_core.detectors.cmkd.lifting import grid_centres, lift, lifting_plan
from kd3d_core.detectors.cmkd.self_calibrated import SelfCalibratedBlock
from kd3d_core.detectors.config import DecodeConfig, ImageSideConfig, Range
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.second import KITTI_ANCHORS, KITTI_RANGE
from kd3d_core.detectors.teachers import CMKD_ANCHORS, CMKD_RANGE
from kd3d_core.detectors.voxels import VoxelGrid, checked_grid


class CmkdDetector(AnchorDetector):
    """A detector on one image, of whose depth it has a distribution.

    The bird's-eye view behind the self-calibrated blocks is what is compared with the teacher's;
    backbone, neck and head are the teacher's own design, so that they can start from its weights.

    Attributes:
        bins: of the distribution.
    """

    reads_image: ClassVar[bool] = True
    reads_points: ClassVar[bool] = False
    centres: torch.Tensor

    def __init__(
        self,
        grid: VoxelGrid,
        decoding: DecodeConfig,
        *,
        image_side: ImageSide,
        blocks: int,
        backbone: BevBackbone,
        neck: BevNeck,
        head: AnchorHead,
        channels: int,
    ) -> None:
        """`blocks` self-calibrated ones work on `channels` of the bird's-eye view."""
        layers, _, _ = grid.shape
        network: dict[str, nn.Module] = {
            "image_side": image_side,
            "collapse": nn.Sequential(
                nn.Conv2d(layers * image_side.channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ),
            "calibrated": nn.Sequential(*(SelfCalibratedBlock(channels) for _ in range(blocks))),
            "backbone": backbone,
            "neck": neck,
            "bbox_head": head,
        }
        super().__init__(grid, decoding, network)
        self.bins = image_side.bins
        self.register_buffer("centres", grid_centres(grid), persistent=False)

    @property
    def image_side(self) -> Any:
        """The `ImageSide`."""
        return self.network["image_side"]

    def start_image_side(self, weights: str) -> None:
        self.image_side.start(weights)

    def bev_input(self, frames: DetectorInput) -> BevInput:
        """The image in voxels, without the points."""
        features, logits = self.image_side(frames.images)
        voxels = self.voxels(features, logits.softmax(1), frames.image_from_lidar)
        return BevInput(self.bev(voxels), depth_logits=logits)

    def voxels(
        self, features: torch.Tensor, probabilities: torch.Tensor, image_from_lidar: torch.Tensor
    ) -> torch.Tensor:
        """`(B, z * C, y, x)`: features `(B, C, h, w)`, lifted by depth `(B, count + 1, h, w)`."""
        z, y, x = self.grid.shape
        height, width = features.shape[-2:]
        lifted = []
        for sample, matrix in enumerate(image_from_lidar):
            with torch.no_grad():
                plan = lifting_plan(self.centres, matrix, (height, width), STRIDE, self.bins)
            lifted.append(lift(features[sample], probabilities[sample, :-1], plan))
        cells = torch.stack(lifted).view(len(lifted), z, y, x, -1)
        return cells.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def bev(self, voxels: torch.Tensor) -> torch.Tensor:
        """`(B, C, y, x)`: voxels `(B, z * C, y, x)` without their height, calibrated."""
        return self.network["calibrated"](self.network["collapse"](voxels))


def cmkd_kitti(
    decoding: DecodeConfig, image: ImageSideConfig, point_cloud_range: Range = CMKD_RANGE
) -> CmkdDetector:
    """CMKD's student for KITTI as published: ResNet-50, voxels of 0.32 x 0.32 x 0.4 m.

    Five self-calibrated blocks, as the paper says; the published code builds four.
    """
    grid = checked_grid((0.32, 0.32, 0.4), point_cloud_range, layers=10, stride=2)
    return CmkdDetector(
        grid,
        decoding,
        image_side=DeepLabSide(64, _bins(point_cloud_range, 120), frozen=image.frozen),
        channels=128,
        blocks=5,
        backbone=BevBackbone(128, channels=(128, 256), layers=(5, 5), strides=(1, 2)),
        neck=BevNeck((128, 256), channels=(256, 256), strides=(1, 2)),
        head=AnchorHead(
            512, Anchors(point_cloud_range, CMKD_ANCHORS), assign_per_class=True,
            class_loss="quality_focal",
        ),
    )  # fmt: skip


def cmkd_lite(
    decoding: DecodeConfig,
    image: ImageSideConfig,
    point_cloud_range: Range = KITTI_RANGE,
    cell: float = 0.4,
    kind: type[CmkdDetector] = CmkdDetector,
) -> CmkdDetector:
    """CMKD for CPUs: a small encoder, cells of 0.4 m, half as many channels.

    `kind` is what is made of it: the student, or its assistant.
    """
    grid = checked_grid((cell, cell, 0.5), point_cloud_range, layers=8, stride=2)
    return kind(
        grid,
        decoding,
        image_side=LightSide(
            ENCODERS[image.encoder](), 32, _bins(point_cloud_range, 64), frozen=image.frozen
        ),
        channels=64,
        blocks=3,
        backbone=BevBackbone(64, channels=(64, 128), layers=(2, 3), strides=(1, 2)),
        neck=BevNeck((64, 128), channels=(64, 64), strides=(1, 2)),
        head=AnchorHead(
            128, Anchors(point_cloud_range, KITTI_ANCHORS), assign_per_class=True,
            class_loss="quality_focal",
        ),
    )  # fmt: skip


def cmkd_tiny(
    decoding: DecodeConfig, image: ImageSideConfig, point_cloud_range: Range = KITTI_RANGE
) -> CmkdDetector:
    """`cmkd_lite` with cells of 0.8 m: a quarter of the work, for tests and first tries."""
    return cmkd_lite(decoding, image, point_cloud_range, cell=0.8)


def _bins(point_cloud_range: Range, count: int) -> DepthBins:
    """From the range's near end, and at least 1 m, to its far end."""
    return DepthBins(max(point_cloud_range[0], 1.0), point_cloud_range[3], count)
