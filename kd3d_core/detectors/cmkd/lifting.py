"""Lifting: image features into voxels, by a distribution over depth and the calibration.

Lift-Splat and CaDDN lay the product of features and distribution out as a frustum of channels x
bins x height x width, and sample that. Interpolation is linear in both, so a voxel's value is

    sum over the 4 nearest pixels n of  weight_n * p_n(depth of the voxel) * feature_n

where p_n is the pixel's distribution, interpolated along depth. That reads 8 numbers of the
distribution and 4 rows of features for each voxel, and the frustum never exists. All of it is
gathering, multiplying and adding, with indices that depend on the calibration alone; so it is
exported to other runtimes. In torch, bags of rows do the same without keeping what was gathered.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from kd3d_core.detectors.cmkd.bins import DepthBins
from kd3d_core.detectors.voxels import VoxelGrid


@dataclass(frozen=True)
class LiftingPlan:
    """Where each of V voxels reads in maps of one sample; see `lifting_plan`.

    Attributes:
        pixels: `(4, V)` int64, rows of the 4 nearest cells in the flattened `h * w` map.
        weights: `(4, V)` of their features; 0 for those outside of the map.
        bins: `(2, V)` int64, the 2 nearest bins.
        bin_weights: `(2, V)`; 0 for bins that aren't there.
    """

    pixels: torch.Tensor
    weights: torch.Tensor
    bins: torch.Tensor
    bin_weights: torch.Tensor


def lifting_plan(
    centres: torch.Tensor,
    image_from_lidar: torch.Tensor,
    size: tuple[int, int],
    stride: int,
    bins: DepthBins,
) -> LiftingPlan:
    """Which numbers voxels are made of.

    The centre of pixel 0 has coordinate 0, and a map's cell j is in the middle of the pixels that
    it stands for: pixel u is at (u + 0.5) / stride - 0.5. The distribution's entry k is at the
    middle of bin k. Outside of the map or of the bins all is 0; a voxel behind the camera gets
    nothing.

    Args:
        centres: `(V, 3)` of the voxels, detector frame, metres.
        image_from_lidar: `(3, 4)` projection into the image.
        size: h, w of the maps.
        stride: pixels per cell of the maps.
        bins: of the distribution.
    """
    height, width = size
    u, v, depth = (centres @ image_from_lidar[:, :3].T + image_from_lidar[:, 3]).unbind(1)
    ahead = depth > 1e-3
    safe = torch.where(ahead, depth, 1.0)
    column, row = (((pixel / safe + 0.5) / stride - 0.5) for pixel in (u, v))
    rows, row_weights = _neighbours(row, height)
    columns, column_weights = _neighbours(column, width)
    layers, layer_weights = _neighbours(bins.position(safe) - 0.5, bins.count)
    return LiftingPlan(
        (rows[:, None] * width + columns[None]).flatten(0, 1),
        (row_weights[:, None] * column_weights[None]).flatten(0, 1) * ahead,
        layers,
        layer_weights,
    )


def lift(features: torch.Tensor, probabilities: torch.Tensor, plan: LiftingPlan) -> torch.Tensor:
    """`(V, C)`: the voxels of one sample.

    >>> grid = VoxelGrid((1.0, 1.0, 1.0), (0, -1, -1, 8, 1, 1))
    >>> forward = torch.tensor([[0, -4.0, 0, 0], [0, 0, -4.0, 0], [1, 0, 0, 0]])  # focal length 4
    >>> plan = lifting_plan(grid_centres(grid), forward, (2, 2), 1, DepthBins(0.0, 8.0, 8))
    >>> lift(torch.ones(1, 2, 2), torch.full((8, 2, 2), 0.125), plan).shape
    torch.Size([32, 1])

    Args:
        features: `(C, h, w)`.
        probabilities: `(count, h, w)` of the bins, without the class beyond them.
        plan: of the voxels, for maps of that size.
    """
    rows = features.flatten(1).t()
    weights = _likelihood(probabilities, plan) * plan.weights
    if torch.compiler.is_exporting():  # other runtimes know no bags
        return _sum_of_rows(rows, plan.pixels, weights.to(rows.dtype))
    return functional.embedding_bag(
        plan.pixels.t().contiguous(),
        rows,
        per_sample_weights=weights.to(rows.dtype).t().contiguous(),
        mode="sum",
    )


def _likelihood(probabilities: torch.Tensor, plan: LiftingPlan) -> torch.Tensor:
    """`(4, V)`: what each of a voxel's pixels says of its depth."""
    distributions = probabilities.flatten(1).t()  # (h * w, count), so that bins are neighbours
    flat, count = distributions.reshape(-1), distributions.shape[1]
    near, far = (
        weight * flat.index_select(0, (plan.pixels * count + bins).flatten()).view_as(plan.pixels)
        for bins, weight in zip(plan.bins, plan.bin_weights, strict=True)
    )
    return near + far


def _sum_of_rows(rows: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`(V, C)`: the sum over the 4 rows that `index` `(4, V)` names, each times its weight."""
    parts = [
        rows.index_select(0, which) * weight[:, None]
        for which, weight in zip(index, weights, strict=True)
    ]
    return torch.stack(parts).sum(0)


def grid_centres(grid: VoxelGrid) -> torch.Tensor:
    """`(V, 3)` centres of all voxels of a grid in metres, x fastest, then y, then z."""
    z, y, x = (torch.arange(count) for count in grid.shape)
    return grid.centres(torch.cartesian_prod(z, y, x))


def _neighbours(position: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The 2 entries beside each position and their weights `(2, V)`; 0 for those not there."""
    # Far outside, indices would not fit into an integer; from -2 on all weights are 0 anyway.
    position = position.clamp(-2, count + 1)
    low = position.floor()
    share = position - low
    index = torch.stack([low, low + 1]).long()
    weights = torch.stack([1 - share, share])
    inside = (index >= 0) & (index < count)
    return index.clamp(0, count - 1), weights * inside
