"""MVX-Net's first stage: points and the image features behind them, gathered into voxels.

Same parameters, names and answers as mmdet3d's `DynamicVFE` and `PointFusion`, so that their
checkpoints load. What differs is how it runs: points are sorted into voxels once instead of once
per layer, out-of-range points have a place of their own instead of another voxel's, and nothing
asks the device for a number on the way.
"""

from dataclasses import dataclass
from typing import Any

import torch
from mmdet3d.models.layers.fusion_layers import PointFusion
from mmdet3d.models.voxel_encoders import DynamicVFE
from mmdet3d.registry import MODELS
from torch.nn import functional

from kd3d_core.detectors.voxels import VoxelAssignment
from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class ImageFeatures:
    """Feature maps and where points fall into them.

    Attributes:
        maps: `(B, C, h, w)` each, finest first.
        image_from_lidar: `(B, 3, 4)` projections into the network's input image.
        size: height and width of the network's input image, pixels.
    """

    maps: tuple[torch.Tensor, ...]
    image_from_lidar: torch.Tensor
    size: tuple[int, int]


@MODELS.register_module()
class BatchedPointFusion(PointFusion):
    """`PointFusion` for the points of a whole batch at once."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if (self.aligned, self.align_corners, self.padding_mode) != (True, False, "zeros"):
            raise ConfigError(
                "the fusion layer samples image features bilinearly with zeros outside: "
                "give it aligned=True, align_corners=False and padding_mode='zeros'"
            )

    def forward(
        self, image: ImageFeatures, voxels: VoxelAssignment, point_features: torch.Tensor
    ) -> torch.Tensor:
        """Fused features `(N, out_channels)` of points with features `(N, pts_channels)`."""
        sampled = self.img_transform(self.sample(image, voxels))
        fused = sampled + self.pts_transform(point_features)
        if self.activate_out:
            fused = functional.relu(fused)
        return self.fuse_conv(fused) if self.fuse_out else fused

    def sample(self, image: ImageFeatures, voxels: VoxelAssignment) -> torch.Tensor:
        """Image features `(N, levels * mid_channels)` at the pixels behind the points."""
        maps = [image.maps[level] for level in self.img_levels]
        if self.lateral_convs is not None:
            maps = [conv(level) for conv, level in zip(self.lateral_convs, maps, strict=True)]
        projection = image.image_from_lidar[voxels.samples]
        # No matrix product: autocast would compute pixels in half precision, some of them 9 off.
        homogeneous = (projection[:, :, :3] * voxels.points[:, None, :3]).sum(-1)
        homogeneous = homogeneous + projection[:, :, 3]
        depth = homogeneous[:, 2:]
        pixel = homogeneous[:, :2] / torch.where(depth == 0, 1e-6, depth)
        height, width = image.size
        places = torch.stack([pixel[:, 0] / width, pixel[:, 1] / height], 1)
        levels = [_bilinear(level, places, voxels.samples) for level in maps]
        return torch.cat(levels).t()


def _bilinear(maps: torch.Tensor, places: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """`(C, N)` from maps `(B, C, h, w)` at `(N, 2)` shares of width and height; zeros outside.

    The batch's maps are laid below each other with a row of zeros around each, so that each point
    is looked up in its own sample's map only, without asking the device how many there are.
    """
    batch, channels, height, width = maps.shape
    column = functional.pad(maps, (0, 0, 1, 1))
    rows = height + 2
    column = column.transpose(0, 1).reshape(1, channels, batch * rows, width)
    row = (places[:, 1] * height - 0.5).clamp(-1, height) + 1 + samples * rows
    where = torch.stack([places[:, 0], (row + 0.5) / (batch * rows)], 1) * 2 - 1
    return functional.grid_sample(column, where[None, None], align_corners=False)[0, :, 0]


@MODELS.register_module()
class VoxelFeatureEncoder(DynamicVFE):
    """`DynamicVFE` over a `VoxelAssignment`."""

    def forward(self, voxels: VoxelAssignment, image: ImageFeatures | None) -> torch.Tensor:
        """Voxel features `(V, C)`; zeros in voxels without a point."""
        features = [voxels.points]
        xyz = voxels.points[:, :3]
        if self._with_cluster_center:
            mean = _reduce(xyz, voxels, "mean")
            features.append(xyz - _at_points(mean, voxels))
        if self._with_voxel_center:
            z, y, x = voxels.coords.unbind(1)
            center = [
                x * self.vx + self.x_offset,
                y * self.vy + self.y_offset,
                z * self.vz + self.z_offset,
            ]
            features.append(xyz - torch.stack(center, 1))
        if self._with_distance:
            features.append(xyz.norm(dim=1, keepdim=True))
        point = torch.cat(features, 1)
        voxel = point
        reduction = "mean" if self.vfe_scatter.average_points else "amax"
        for layer in self.vfe_layers:
            if layer is not self.vfe_layers[0]:
                point = torch.cat([point, _at_points(voxel, voxels)], 1)
            if layer is self.vfe_layers[0]:  # reads metres, too coarse in half precision
                with torch.autocast(point.device.type, enabled=False):
                    point = layer(point)
            else:
                point = layer(point)
            if layer is self.vfe_layers[-1] and self.fusion_layer is not None and image is not None:
                point = self.fusion_layer(image, voxels, point)
            voxel = _reduce(point, voxels, reduction)
        return voxel


def _reduce(features: torch.Tensor, voxels: VoxelAssignment, reduction: str) -> torch.Tensor:
    """`(V, C)` from `(N, C)`; the points of no voxel go to an extra row that is cut off."""
    if reduction == "amax":
        return _Maximum.apply(features, voxels.voxel_of_point, voxels.num_voxels)
    rows = features.new_zeros(voxels.num_voxels + 1, features.shape[1])
    index = voxels.voxel_of_point[:, None].expand_as(features)
    return rows.scatter_reduce(0, index, features, reduction, include_self=False)[:-1]


class _Maximum(torch.autograd.Function):
    """`(V, C)`, the maximum of the points `(N, C)` in each voxel; zeros where there are none.

    `scatter_reduce`, with a gradient whose work goes by points and not by voxels: most are empty.
    `(N,)` voxels of the points that are V stand for none.
    """

    @staticmethod
    def forward(
        ctx: Any, features: torch.Tensor, voxel_of_point: torch.Tensor, num_voxels: int
    ) -> torch.Tensor:
        index = voxel_of_point[:, None].expand_as(features)
        rows = features.new_zeros(num_voxels + 1, features.shape[1])
        rows.scatter_reduce_(0, index, features, "amax", include_self=False)
        ctx.save_for_backward(features, voxel_of_point, rows)
        return rows[:-1]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        features, voxel_of_point, rows = ctx.saved_tensors
        highest = (features == rows[voxel_of_point]).float()  # half precision counts to 256
        ties = torch.zeros_like(rows, dtype=torch.float32).index_add_(0, voxel_of_point, highest)
        share = highest / ties[voxel_of_point].clamp(min=1)
        num_voxels = len(gradient)
        theirs = gradient[voxel_of_point.clamp(max=num_voxels - 1)]
        inside = voxel_of_point[:, None] < num_voxels
        return torch.where(inside, share * theirs, 0).to(features.dtype), None, None


def _at_points(rows: torch.Tensor, voxels: VoxelAssignment) -> torch.Tensor:
    """`(N, C)`: to each point the row `(V, C)` of its voxel."""
    return rows[voxels.voxel_of_point.clamp(max=voxels.num_voxels - 1)]
