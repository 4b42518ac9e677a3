"""Reduce the features of points to features of the voxels that hold them."""

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from kd3d_core.errors import Kd3dError

Reduce = Literal["max", "mean", "sum"]


class VoxelGroups(NamedTuple):
    """The voxels that a set of points occupies, sorted by their coordinates."""

    coords: Tensor  # (M, D), dtype of the points' coords
    point_to_voxel: Tensor  # (N,) int64, row of `coords`, or -1 for a dropped point
    counts: Tensor  # (M,) int64, points per voxel


class ScatteredVoxels(NamedTuple):
    """Voxel features with the grouping that made them; see `VoxelGroups`."""

    features: Tensor  # (M, C), dtype of the points' features
    coords: Tensor
    point_to_voxel: Tensor
    counts: Tensor


def group_points(coords: Tensor) -> VoxelGroups:
    """Find the distinct voxels among the points' voxel coordinates.

    A point with any negative coordinate is dropped, as in mmcv's `dynamic_point_to_voxel_forward`.
    With the sample's number in a batch as the first column, one call groups the whole batch and
    orders the voxels as mmcv's `DynamicScatter` does: sample by sample, then z, y, x.

    One device-to-host copy: the number of voxels, which is the size of the result.

    Args:
        coords: (N, D) integer, D of any size; the product of the extents must be below 2^63.
    """
    if coords.shape[0] == 0:
        empty = coords.new_zeros(0, dtype=torch.int64)
        return VoxelGroups(coords, empty, empty)
    wide = coords.long()
    extents = wide.amax(dim=0).clamp(min=0) + 1
    key = torch.zeros_like(wide[:, 0])
    for column, extent in zip(wide.unbind(1), extents.unbind(), strict=True):
        key = key * extent + column
    key = torch.where((wide >= 0).all(dim=1), key, -1)
    # With a dropped point always in front, cutting it off needs no look at the data.
    key = torch.cat([key.new_full((1,), -1), key])
    voxel_key, inverse, counts = torch.unique(key, return_inverse=True, return_counts=True)

    remainder = voxel_key[1:]
    columns = []
    for extent in reversed(extents.unbind()):
        columns.append(remainder % extent)
        remainder = torch.div(remainder, extent, rounding_mode="floor")
    voxel_coords = torch.stack(columns[::-1], dim=1).to(coords.dtype)
    return VoxelGroups(voxel_coords, inverse[1:] - 1, counts[1:])


def reduce_points(features: Tensor, groups: VoxelGroups, reduce: Reduce) -> Tensor:
    """Reduce point features over each voxel; differentiable in `features`.

    The gradient of `max` goes to one point per voxel and channel: of several points that share
    the maximum, the one with the lowest index, as in mmcv. A NaN wins over every number.

    Args:
        features: (N, C) floating.
        groups: the grouping of these N points.
        reduce: `max`, `mean` or `sum`.

    Returns:
        (M, C).
    """
    if reduce not in get_args(Reduce):
        raise Kd3dError(f"unknown reduction '{reduce}' of points to voxels: use max, mean or sum")
    if reduce == "max":
        return _MaxOfPoints.apply(features, groups)
    num_voxels = groups.counts.shape[0]
    total = features.new_zeros((num_voxels + 1, features.shape[1]))
    total = total.index_add(0, _row_or_spare(groups), features)[:-1]
    return total if reduce == "sum" else total / groups.counts[:, None].to(total.dtype)


def scatter_points(features: Tensor, coords: Tensor, reduce: Reduce) -> ScatteredVoxels:
    """Group points by voxel and reduce their features: `group_points`, then `reduce_points`.

    Args:
        features: (N, C) floating.
        coords: (N, D) integer voxel coordinates; a point with a negative one is dropped.
        reduce: `max`, `mean` or `sum`.

    Example:
        >>> features = torch.tensor([[1.0], [3.0], [5.0]])
        >>> coords = torch.tensor([[0, 0, 2], [0, 0, 2], [-1, -1, -1]])
        >>> scatter_points(features, coords, "mean").features
        tensor([[2.]])
    """
    groups = group_points(coords)
    return ScatteredVoxels(reduce_points(features, groups, reduce), *groups)


class _MaxOfPoints(Function):
    """The maximum per voxel and channel; who holds it is found only if there is a backward."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, groups: VoxelGroups) -> Tensor:
        ctx.save_for_backward(features)
        ctx.groups = groups
        return _maximum(features, groups)[:-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_voxels: Tensor) -> tuple[Tensor, None]:
        (features,) = ctx.saved_tensors
        first = _first_maximum(features, ctx.groups)
        return torch.zeros_like(features).scatter(0, first, grad_voxels), None


def _maximum(features: Tensor, groups: VoxelGroups) -> Tensor:
    """(M + 1, C): the voxels' maxima, and that of all dropped points."""
    row = _row_or_spare(groups)[:, None].expand_as(features)
    lowest = features.new_full((groups.counts.shape[0] + 1, features.shape[1]), -torch.inf)
    return lowest.scatter_reduce(0, row, features, "amax")


def _first_maximum(features: Tensor, groups: VoxelGroups) -> Tensor:
    """Index of the first point that holds each voxel's maximum, (M, C) int64."""
    row = _row_or_spare(groups)
    maximum = _maximum(features, groups)
    holds_it = (features == maximum[row]) | features.isnan()
    num_points = features.shape[0]
    point = torch.arange(num_points, dtype=torch.int32, device=features.device)[:, None]
    first = torch.full_like(maximum, num_points, dtype=torch.int32)
    candidate = torch.where(holds_it, point, num_points)
    first = first.scatter_reduce(0, row[:, None].expand_as(candidate), candidate, "amin")
    return first[:-1].long()


def _row_or_spare(groups: VoxelGroups) -> Tensor:
    """Each point's voxel; dropped points get the spare row after the last voxel."""
    spare = groups.counts.shape[0]
    return torch.where(groups.point_to_voxel < 0, spare, groups.point_to_voxel)
