"""MVX-Net (Sindagi et al., 2019): image features on points, voxels, bird's-eye view, anchors."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from kd3d_core.depth.efficientnet import EfficientNetLite0
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevInput, DetectorInput
from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.bev import BevBackbone, BevNeck
from kd3d_core.detectors.config import DecodeConfig, Range
from kd3d_core.detectors.fusion import FusionSizes, ImageFeatures, VoxelFeatureEncoder
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.image import FPN, ResNet
from kd3d_core.detectors.published import fill_efficientnet
from kd3d_core.detectors.second import KITTI_ANCHORS, KITTI_RANGE
from kd3d_core.detectors.sparse import SparseEncoder
from kd3d_core.detectors.voxels import VoxelGrid, assign_dense, assign_sparse, checked_grid


@dataclass(frozen=True)
class ImageNormalization:
    """How an image backbone was trained to see colours of 0 to 255.

    Attributes:
        mean: of each channel, in the order of `bgr`.
        std: what their deviations from it are divided by.
        bgr: the network reads blue, green, red.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool


class FusionDetector(AnchorDetector):
    """A detector on image and points, of the parts of mmdet3d's `DynamicMVXFasterRCNN`.

    Without a `middle_encoder` the voxels are pillars of a dense grid, and no step waits for the
    device; with one (sparse convolution) the number of voxels has to be known on the host.
    """

    reads_image = True
    prefix: ClassVar[str] = "pts_"
    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(
        self,
        grid: VoxelGrid,
        decoding: DecodeConfig,
        normalization: ImageNormalization,
        *,
        voxel_encoder: VoxelFeatureEncoder,
        middle_encoder: SparseEncoder | None,
        backbone: BevBackbone,
        neck: BevNeck,
        head: AnchorHead,
        image_backbone: ResNet | EfficientNetLite0,
        image_neck: FPN,
    ) -> None:
        middle = {} if middle_encoder is None else {"pts_middle_encoder": middle_encoder}
        network = {
            "pts_voxel_encoder": voxel_encoder,
            **middle,
            "pts_backbone": backbone,
            "pts_neck": neck,
            "pts_bbox_head": head,
            "img_backbone": image_backbone,
            "img_neck": image_neck,
        }
        super().__init__(grid, decoding, network)
        self.bgr = normalization.bgr
        shape = (1, 3, 1, 1)
        self.register_buffer("image_mean", torch.tensor(normalization.mean).view(shape), False)
        self.register_buffer("image_std", torch.tensor(normalization.std).view(shape), False)

    def start_image_side(self, weights: str) -> None:
        backbone = self.network["img_backbone"]
        assert isinstance(backbone, EfficientNetLite0), "the others have no image_side to configure"
        fill_efficientnet(backbone, weights)

    def image_features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature pyramid of RGB images, 0 to 255."""
        if self.bgr:
            images = images.flip(1)
        images = (images - self.image_mean) / self.image_std
        return self.network["img_neck"](self.network["img_backbone"](images))

    def bev_input(self, frames: DetectorInput) -> BevInput:
        """Points with the image features behind them, in voxels."""
        batch_size, _, height, width = frames.images.shape
        pyramid = self.image_features(frames.images)
        image = ImageFeatures(pyramid, frames.image_from_lidar, (height, width))
        encoder = self.network["pts_voxel_encoder"]
        if "pts_middle_encoder" in self.network:
            voxels = assign_sparse(frames.points, frames.samples, frames.valid, self.grid)
            features = encoder(voxels, image)
            middle = self.network["pts_middle_encoder"]
            return BevInput(middle(features, voxels.voxel_coords, batch_size))
        voxels = assign_dense(frames.points, frames.samples, frames.valid, batch_size, self.grid)
        _, ny, nx = self.grid.shape
        canvas = encoder(voxels, image).view(batch_size, ny, nx, -1).permute(0, 3, 1, 2)
        return BevInput(canvas.contiguous() if _trains_slowly_channels_last(canvas) else canvas)


def _trains_slowly_channels_last(canvas: torch.Tensor) -> bool:
    """Without AVX-512, oneDNN's weight gradients of such a map take 2 to 4 times as long."""
    if not canvas.requires_grad or canvas.device.type != "cpu":
        return False
    return torch.backends.cpu.get_cpu_capability() != "AVX512"


def mvxnet(decoding: DecodeConfig, point_cloud_range: Range = KITTI_RANGE) -> FusionDetector:
    """MVX-Net for KITTI, as mmdet3d has it."""
    grid = checked_grid((0.05, 0.05, 0.1), point_cloud_range, layers=40, stride=16)
    return FusionDetector(
        grid,
        decoding,
        ImageNormalization((102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0), bgr=True),
        voxel_encoder=VoxelFeatureEncoder(grid, (64, 64), FusionSizes(5, 256, 128, 128)),
        middle_encoder=SparseEncoder(128, grid.shape),
        backbone=BevBackbone(256, channels=(128, 256), layers=(5, 5), strides=(1, 2)),
        neck=BevNeck((128, 256), channels=(256, 256), strides=(1, 2)),
        head=AnchorHead(512, Anchors(point_cloud_range, KITTI_ANCHORS), assign_per_class=True),
        image_backbone=ResNet(50, caffe=True, frozen=True),
        image_neck=FPN((256, 512, 1024, 2048), 256, levels=5, frozen=True),
    )
