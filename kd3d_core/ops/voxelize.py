"""Points to voxels: which voxel each point falls in, and fixed-size voxels filled with points.

Nothing here copies from the device to the host; every shape follows from the arguments.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Vector = Tensor | Sequence[float]


class HardVoxels(NamedTuple):
    """Voxels with room for a fixed number of points, in order of their first point.

    Rows from `num_voxels` on are empty (all zero), so that the shapes do not depend on the data.
    """

    features: Tensor  # (max_voxels, max_points, C), dtype of the points, zero where empty
    coords: Tensor  # (max_voxels, 3) int32: z, y, x
    num_points: Tensor  # (max_voxels,) int32
    num_voxels: Tensor  # () int64


def grid_size(voxel_size: Tensor, point_cloud_range: Tensor) -> Tensor:
    """Number of voxels along x, y, z, rounded to the nearest whole number.

    Args:
        voxel_size: (3,) metres along x, y, z.
        point_cloud_range: (6,) x_min, y_min, z_min, x_max, y_max, z_max in metres.

    Returns:
        (3,) whole numbers in the dtype of the arguments.

    >>> grid_size(torch.tensor([0.2, 0.2, 4.0]), torch.tensor([0, -40, -3, 70.4, 40, 1]))
    tensor([352., 400.,   1.])
    """
    return ((point_cloud_range[3:] - point_cloud_range[:3]) / voxel_size).round()


def dynamic_voxelize(points: Tensor, voxel_size: Vector, point_cloud_range: Vector) -> Tensor:
    """Voxel of each point: floor((point - range_min) / voxel_size).

    The same as mmcv's `dynamic_voxelize_forward`, computed in float32 at least. A point on the
    upper end of the range is outside; so are NaN and infinite points.

    Args:
        points: (N, C >= 3) floating; the first three columns are x, y, z in metres.
        voxel_size: (3,) metres along x, y, z.
        point_cloud_range: (6,) x_min, y_min, z_min, x_max, y_max, z_max in metres.

    Returns:
        (N, 3) int32 in the order z, y, x; -1 in all three where the point is out of range.

    >>> points = torch.tensor([[0.3, 0.1, -1.0], [99.0, 0.0, 0.0]])
    >>> dynamic_voxelize(points, (0.2, 0.2, 4.0), (0, -40, -3, 70.4, 40, 1))
    tensor([[  0, 200,   1],
            [ -1,  -1,  -1]], dtype=torch.int32)
    """
    xyz = points[:, :3].to(torch.promote_types(points.dtype, torch.float32))
    size = _constant(voxel_size, xyz)
    bounds = _constant(point_cloud_range, xyz)
    cell = torch.floor((xyz - bounds[:3]) / size)
    # Compared as floating point: casting NaN or infinity to int is undefined.
    inside = ((cell >= 0) & (cell < grid_size(size, bounds))).all(dim=1, keepdim=True)
    return torch.where(inside, cell, -1.0).to(torch.int32).flip(1)


def hard_voxelize(
    points: Tensor,
    voxel_size: Vector,
    point_cloud_range: Vector,
    max_points: int,
    max_voxels: int,
) -> HardVoxels:
    """Voxels that hold their first `max_points` points, for the first `max_voxels` voxels met.

    The same as mmcv's deterministic `hard_voxelize_forward`: points are taken in their order, so
    the result does not depend on the device or on timing.

    Args:
        points: (N, C >= 3) floating; the first three columns are x, y, z in metres.
        voxel_size: (3,) metres along x, y, z.
        point_cloud_range: (6,) x_min, y_min, z_min, x_max, y_max, z_max in metres.
        max_points: points kept per voxel.
        max_voxels: voxels kept.

    >>> points = torch.tensor([[0.3, 0.1, -1.0], [0.3, 0.1, 0.0], [99.0, 0.0, 0.0]])
    >>> voxels = hard_voxelize(points, (0.2, 0.2, 4.0), (0, -40, -3, 70.4, 40, 1), 5, 100)
    >>> voxels.features.shape, voxels.num_points[:3]
    (torch.Size([100, 5, 3]), tensor([2, 0, 0], dtype=torch.int32))
    """
    coords = dynamic_voxelize(points, voxel_size, point_cloud_range)
    voxel, rank = _first_seen_order(coords)
    keep = (voxel >= 0) & (voxel < max_voxels) & (rank < max_points)

    # Everything that is not kept is written to one spare row at the end, then cut off: selecting
    # the kept points instead would make their number travel to the host.
    spare = max_voxels * max_points
    slot = torch.where(keep, voxel * max_points + rank, spare)
    features = points.new_zeros((spare + 1, points.shape[1])).index_copy(0, slot, points)
    opens_voxel = keep & (rank == 0)
    voxel_row = torch.where(opens_voxel, voxel, max_voxels)
    voxel_coords = coords.new_zeros((max_voxels + 1, 3)).index_copy(0, voxel_row, coords)
    counts = coords.new_zeros(max_voxels + 1)
    counts.index_add_(0, torch.where(keep, voxel, max_voxels), torch.ones_like(coords[:, 0]))
    return HardVoxels(
        features[:-1].view(max_voxels, max_points, points.shape[1]),
        voxel_coords[:-1],
        counts[:-1],
        opens_voxel.sum(),
    )


def _first_seen_order(coords: Tensor) -> tuple[Tensor, Tensor]:
    """Number voxels in the order in which points meet them, and points within their voxel.

    Args:
        coords: (N, 3) int32, -1 where out of range.

    Returns:
        voxel (N,) int64, -1 where out of range; rank of the point in its voxel (N,) int64.
    """
    num_points = coords.shape[0]
    if num_points == 0:
        empty = coords.new_zeros(0, dtype=torch.int64)
        return empty, empty
    position = torch.arange(num_points, device=coords.device)
    z, y, x = coords.long().unbind(1)
    key = (z * (y.amax() + 1) + y) * (x.amax() + 1) + x
    sorted_key, order = torch.where(z >= 0, key, -1).sort(stable=True)

    starts = torch.ones_like(sorted_key, dtype=torch.bool)
    starts[1:] = sorted_key[1:] != sorted_key[:-1]
    start = torch.where(starts, position, 0).cummax(0).values
    rank = torch.empty_like(position).index_copy(0, order, position - start)
    first_point = torch.empty_like(position).index_copy(0, order, order[start])
    opens_voxel = (first_point == position) & (z >= 0)
    voxel = (opens_voxel.cumsum(0) - 1)[first_point]
    return torch.where(z >= 0, voxel, -1), rank


def _constant(values: Vector, like: Tensor) -> Tensor:
    """On the device without waiting for it, as a plain `torch.tensor(..., device=...)` would."""
    return torch.as_tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
