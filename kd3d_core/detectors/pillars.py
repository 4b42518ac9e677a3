"""Encoders of voxels that hold points: SECOND's mean and PointPillars' network.

Names of tensors are those of mmdet3d's `PillarFeatureNet`.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kd3d_core.detectors.voxels import FilledVoxels, VoxelGrid


class MeanEncoder(nn.Module):
    """The mean of a voxel's points."""

    def forward(self, voxels: FilledVoxels) -> torch.Tensor:
        """`(V, 4)` x, y, z, intensity."""
        return voxels.points.sum(1) / voxels.num_points.type_as(voxels.points)[:, None]


class PillarEncoder(nn.Module):
    """PointPillars' encoder (Lang et al., 2019): one layer over the points, then their maximum.

    A point is its offset from the voxel's centre, its intensity, its offset from the mean of the
    voxel's points, and its offset from the centre again: mmdet3d trains with it in both places,
    where the paper has the point itself first.
    """

    def __init__(self, grid: VoxelGrid, channels: int, momentum: float = 0.01) -> None:
        """`momentum` is that of the norm's statistics; mmdet3d's by default."""
        super().__init__()
        self.grid = grid
        norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=momentum)
        linear = nn.Linear(10, channels, bias=False)
        self.pfn_layers = nn.ModuleList([nn.Sequential(OrderedDict(norm=norm, linear=linear))])

    def forward(self, voxels: FilledVoxels) -> torch.Tensor:
        """`(V, channels)`."""
        points, counts = voxels.points, voxels.num_points
        xyz = points[..., :3]
        mean = xyz.sum(1, keepdim=True) / counts.type_as(points).view(-1, 1, 1)
        centre = xyz - self.grid.centres(voxels.coords[:, 1:])[:, None]
        features = torch.cat([centre, points[..., 3:], xyz - mean, centre], -1)
        filled = torch.arange(points.shape[1], device=points.device) < counts[:, None]
        features = features * filled[..., None]
        layer: Any = self.pfn_layers[0]
        features = layer.norm(layer.linear(features).transpose(1, 2).contiguous())
        return functional.relu(features).max(2).values


class PillarScatter(nn.Module):
    """Lays pillars into the bird's-eye view of `grid`, zeros elsewhere."""

    def __init__(self, grid: VoxelGrid) -> None:
        super().__init__()
        self.grid = grid

    def forward(
        self, features: torch.Tensor, coords: torch.Tensor, batch_size: int
    ) -> torch.Tensor:
        """`(B, C, y, x)` of pillars `(V, C)` at `coords` `(V, 4)` int32 sample, z, y, x."""
        _, ny, nx = self.grid.shape
        sample, _, y, x = coords.long().unbind(1)
        canvas = features.new_zeros(batch_size, features.shape[1], ny, nx)
        canvas[sample, :, y, x] = features
        return canvas
