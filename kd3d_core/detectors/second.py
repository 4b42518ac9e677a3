"""SECOND (Yan et al., 2018) and PointPillars (Lang et al., 2019): detectors on points alone."""

from typing import Any

import torch
from mmengine.config import ConfigDict
from torch import nn

from kd3d_core.detectors.anchor_detector import AnchorDetector, upstream_config
from kd3d_core.detectors.decode import DecodeConfig
from kd3d_core.detectors.head import SharedAnchorHead
from kd3d_core.detectors.voxels import FilledVoxels, fill_voxels

_SECOND = "second/second_hv_secfpn_8xb6-80e_kitti-3d-3class.py"
_POINTPILLARS = "pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class.py"


def second_config() -> ConfigDict:
    """mmdet3d's SECOND for KITTI: the mean of up to 5 points per voxel, sparse convolution."""
    return _on_our_head(upstream_config(_SECOND))


def pointpillars_config() -> ConfigDict:
    """mmdet3d's PointPillars for KITTI: up to 32 points per pillar, no sparse convolution."""
    return _on_our_head(upstream_config(_POINTPILLARS))


def _on_our_head(model: ConfigDict) -> ConfigDict:
    model.bbox_head.type = SharedAnchorHead.__name__
    return model


class PointDetector(AnchorDetector):
    """A detector on points, built from a config of mmdet3d's `VoxelNet`; it ignores the image.

    Voxels hold their first points and there is a limit to their number, a lower one in training,
    all as upstream has it. The number of voxels has to be known on the host.
    """

    reads_image = False

    def __init__(self, config: ConfigDict, decoding: DecodeConfig) -> None:
        super().__init__(config, decoding)
        layer = config.data_preprocessor.voxel_layer
        self.max_points: int = layer.max_num_points
        self.max_voxels_train, self.max_voxels_test = layer.max_voxels

    @property
    def head(self) -> Any:
        return self.network.bbox_head

    @property
    def backbone(self) -> nn.Module:
        return self.network.backbone

    @property
    def neck(self) -> nn.Module:
        return self.network.neck

    def bev_input(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None,
    ) -> torch.Tensor:
        """Points in voxels, without the image; see `AnchorDetector`."""
        batch_size = len(image_from_lidar)
        voxels = self.voxels(points, samples, valid, batch_size)
        features = self.network.voxel_encoder(voxels.points, voxels.num_points, voxels.coords)
        return self.network.middle_encoder(features, voxels.coords, batch_size)

    def voxels(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        valid: torch.Tensor | None,
        batch_size: int,
    ) -> FilledVoxels:
        """The voxels of a batch; see `AnchorDetector.forward_features`.

        In training points come in random order, as in upstream's pipeline: the voxels beyond the
        limit would else always be those of the same place, such as the lower rows of an image.
        """
        if self.training:
            order = torch.randperm(len(points), device=points.device)
            points, samples = points[order], samples[order]
            valid = None if valid is None else valid[order]
        limit = self.max_voxels_train if self.training else self.max_voxels_test
        return fill_voxels(points, samples, valid, batch_size, self.grid, self.max_points, limit)
