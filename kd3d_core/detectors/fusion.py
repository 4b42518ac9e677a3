"""MVX-Net's first stage: points and the image features behind them, gathered into voxels.

Same parameters, names and answers as mmdet3d's `DynamicVFE` and `PointFusion`, so that their
checkpoints load. What differs is how it runs: points are sorted into voxels once instead of once
per layer, out-of-range points have a place of their own instead of another voxel's, and nothing
asks the device for a number on the way.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kd3d_core.detectors.image import mmcv_conv
from kd3d_core.detectors.voxels import VoxelAssignment, VoxelGrid


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


@dataclass(frozen=True)
class FusionSizes:
    """Sizes of a `PointFusion`.

    Attributes:
        levels: of the image's feature pyramid.
        image_channels: of each level.
        middle_channels: of each level when points look it up.
        channels: of the fused features.
    """

    levels: int
    image_channels: int
    middle_channels: int
    channels: int


class PointFusion(nn.Module):
    """Adds the image features behind each point to the point's own."""

    def __init__(self, sizes: FusionSizes, point_channels: int) -> None:
        super().__init__()
        middle = sizes.middle_channels
        self.lateral_convs = nn.ModuleList(
            nn.Sequential(OrderedDict(conv=mmcv_conv(sizes.image_channels, middle, 3, bias=True)))
            for _ in range(sizes.levels)
        )
        self.img_transform = _linear_norm(nn.Linear(middle * sizes.levels, sizes.channels))
        self.pts_transform = _linear_norm(nn.Linear(point_channels, sizes.channels))

    def forward(
        self, image: ImageFeatures, voxels: VoxelAssignment, point_features: torch.Tensor
    ) -> torch.Tensor:
        """Fused features `(N, channels)` of points with features `(N, point_channels)`."""
        maps = [conv(level) for conv, level in zip(self.lateral_convs, image.maps, strict=True)]
        sampled = self.img_transform(sample_pixels(replace(image, maps=tuple(maps)), voxels))
        return functional.relu(sampled + self.pts_transform(point_features))


def sample_pixels(image: ImageFeatures, voxels: VoxelAssignment) -> torch.Tensor:
    """Image features `(N, sum of channels)` of all maps at the pixels behind the points."""
    projection = image.image_from_lidar[voxels.samples]
    # No matrix product: autocast would compute pixels in half precision, some of them 9 off.
    homogeneous = (projection[:, :, :3] * voxels.points[:, None, :3]).sum(-1)
    homogeneous = homogeneous + projection[:, :, 3]
    depth = homogeneous[:, 2:]
    pixel = homogeneous[:, :2] / torch.where(depth == 0, 1e-6, depth)
    height, width = image.size
    places = torch.stack([pixel[:, 0] / width, pixel[:, 1] / height], 1)
    levels = [_bilinear(level, places, voxels.samples) for level in image.maps]
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


class VoxelFeatureEncoder(nn.Module):
    """Layers over the points, each followed by the maximum in every voxel (Zhou and Tuzel, 2018).

    A point is x, y, z, intensity, its offset from the mean of the voxel's points and its offset
    from the voxel's centre. Image features join after the last layer.
    """

    def __init__(
        self, grid: VoxelGrid, channels: Sequence[int], fusion: FusionSizes | None = None
    ) -> None:
        """`channels` of each layer; the answer has those of the fusion, if there is one."""
        super().__init__()
        self.grid = grid
        self.vfe_layers = nn.ModuleList()
        before = 10
        for width in channels:
            linear = _linear_norm(nn.Linear(before, width, bias=False))
            self.vfe_layers.append(linear.append(nn.ReLU(inplace=True)))
            before = 2 * width
        # Its first layer reads metres, too coarse in half precision; `cast_weights` asks.
        self.vfe_layers[0].computes_in_fp32 = True  # type: ignore[assignment]
        self.fusion_layer = None if fusion is None else PointFusion(fusion, channels[-1])

    def forward(self, voxels: VoxelAssignment, image: ImageFeatures | None) -> torch.Tensor:
        """Voxel features `(V, C)`; zeros in voxels without a point."""
        xyz = voxels.points[:, :3]
        from_mean = xyz - _at_points(_reduce(xyz, voxels, "mean"), voxels)
        from_centre = xyz - self.grid.centres(voxels.coords)
        point = torch.cat([voxels.points, from_mean, from_centre], 1)
        voxel = point
        for number, layer in enumerate(self.vfe_layers, 1):
            if number == 1:
                with torch.autocast(point.device.type, enabled=False):
                    point = layer(point)
            else:
                point = layer(torch.cat([point, _at_points(voxel, voxels)], 1))
            if number == len(self.vfe_layers) and self.fusion_layer and image:
                point = self.fusion_layer(image, voxels, point)
            voxel = _reduce(point, voxels, "amax")
        return voxel


def _linear_norm(linear: nn.Linear) -> nn.Sequential:
    norm = nn.BatchNorm1d(linear.out_features, eps=1e-3, momentum=0.01)
    return nn.Sequential(linear, norm)


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
