"""MVX-Net (Sindagi et al., 2019): image features on points, voxels, bird's-eye view, anchors."""

from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import nn

from kd3d_core.detectors.anchor_detector import AnchorDetector, upstream_config
from kd3d_core.detectors.decode import DecodeConfig
from kd3d_core.detectors.fusion import ImageFeatures
from kd3d_core.detectors.head import SharedAnchorHead
from kd3d_core.detectors.voxels import assign_dense, assign_sparse

_CONFIG = "mvxnet/mvxnet_fpn_dv_second_secfpn_8xb2-80e_kitti-3d-3class.py"


def mvxnet_config() -> ConfigDict:
    """mmdet3d's MVX-Net for KITTI, on our batched first stage and our head."""
    model = upstream_config(_CONFIG)
    model.pts_voxel_encoder.type = "VoxelFeatureEncoder"
    model.pts_voxel_encoder.fusion_layer.type = "BatchedPointFusion"
    model.pts_bbox_head.type = SharedAnchorHead.__name__
    return model


class FusionDetector(AnchorDetector):
    """A detector on image and points, built from a config of mmdet3d's `DynamicMVXFasterRCNN`.

    Without a `pts_middle_encoder` the voxels are pillars of a dense grid, and no step waits for
    the device; with one (sparse convolution) the number of voxels has to be known on the host.
    """

    image_mean: torch.Tensor
    image_std: torch.Tensor

    def __init__(self, config: ConfigDict, decoding: DecodeConfig) -> None:
        super().__init__(config, decoding)
        preprocessing = config.data_preprocessor
        self.bgr = not preprocessing.bgr_to_rgb
        shape = (1, 3, 1, 1)
        self.register_buffer("image_mean", torch.tensor(preprocessing.mean).view(shape), False)
        self.register_buffer("image_std", torch.tensor(preprocessing.std).view(shape), False)

    @property
    def head(self) -> Any:
        return self.network.pts_bbox_head

    @property
    def backbone(self) -> nn.Module:
        return self.network.pts_backbone

    @property
    def neck(self) -> nn.Module:
        return self.network.pts_neck

    def image_features(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Feature pyramid of RGB images, 0 to 255."""
        if self.bgr:
            images = images.flip(1)
        images = (images - self.image_mean) / self.image_std
        return tuple(self.network.img_neck(self.network.img_backbone(images)))

    def bev_input(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None,
    ) -> torch.Tensor:
        """Points with the image features behind them, in voxels; see `AnchorDetector`."""
        batch_size, _, height, width = images.shape
        image = ImageFeatures(self.image_features(images), image_from_lidar, (height, width))
        encoder = self.network.pts_voxel_encoder
        if hasattr(self.network, "pts_middle_encoder"):
            voxels = assign_sparse(points, samples, valid, self.grid)
            features = encoder(voxels, image)
            return self.network.pts_middle_encoder(features, voxels.voxel_coords, batch_size)
        voxels = assign_dense(points, samples, valid, batch_size, self.grid)
        _, ny, nx = self.grid.shape
        return encoder(voxels, image).view(batch_size, ny, nx, -1).permute(0, 3, 1, 2)
