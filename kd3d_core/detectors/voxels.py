"""Which voxel each point falls into, in the three ways that detectors need."""

from dataclasses import dataclass

import torch

from kd3d_core.detectors.config import Range
from kd3d_core.errors import ConfigError
from kd3d_core.ops import dynamic_voxelize, hard_voxelize


@dataclass(frozen=True)
class VoxelGrid:
    """A regular grid over the detector frame.

    Attributes:
        voxel_size: x, y, z in metres.
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max in metres.
    """

    voxel_size: tuple[float, float, float]
    point_cloud_range: Range

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        low, high = self.point_cloud_range[:3], self.point_cloud_range[3:]
        x, y, z = (
            round((b - a) / size) for a, b, size in zip(low, high, self.voxel_size, strict=True)
        )
        return z, y, x

    def centres(self, coords: torch.Tensor) -> torch.Tensor:
        """`(N, 3)` x, y, z in metres of the centres of voxels at `(N, 3)` z, y, x.

        >>> VoxelGrid((0.2, 0.2, 4.0), (0, -40, -3, 70.4, 40, 1)).centres(torch.tensor([[0, 0, 9]]))
        tensor([[  1.9000, -39.9000,  -1.0000]])
        """
        axes = zip(coords.unbind(1)[::-1], self.voxel_size, self.point_cloud_range[:3], strict=True)
        return torch.stack([index * size + (size / 2 + low) for index, size, low in axes], 1)


def checked_grid(
    voxel_size: tuple[float, float, float], point_cloud_range: Range, layers: int, stride: int
) -> VoxelGrid:
    """The grid of a design that has `layers` voxels above each other, whatever the range.

    Args:
        voxel_size: x, y, z in metres.
        point_cloud_range: what the detector is to see.
        layers: voxels along z; the encoder's layers depend on their number.
        stride: voxels per cell of the backbone's coarsest map.

    Raises:
        ConfigError: the range isn't made of whole voxels, or of cells that the stride divides.

    >>> checked_grid((0.2, 0.2, 4.0), (0, -8, -3, 16, 8, 1), layers=1, stride=4).shape
    (1, 80, 80)
    """
    grid = VoxelGrid(voxel_size, point_cloud_range)
    for axis, count, multiple in zip("zyx", grid.shape, (layers, stride, stride), strict=True):
        index = "xyz".index(axis)
        low, high, size = point_cloud_range[index], point_cloud_range[index + 3], voxel_size[index]
        step = multiple * size
        exact = abs((high - low) / size - count) < 1e-3
        if not low < high or not exact or count % multiple or (axis == "z" and count != layers):
            must = f"{step:g} m" if axis == "z" else f"a multiple of {step:g} m"
            raise ConfigError(
                f"point_cloud_range is {list(point_cloud_range)}: along {axis} it spans "
                f"{high - low:g} m, and the design needs {must} ({size:g} m voxels)"
            )
    return grid


@dataclass(frozen=True)
class VoxelAssignment:
    """Points sorted into voxels.

    Attributes:
        points: `(N, 4)` of the whole batch.
        samples: `(N,)` int64, the sample that each point belongs to.
        coords: `(N, 3)` int32 voxel coordinates z, y, x of each point.
        voxel_of_point: `(N,)` int64 row of each point's voxel in `voxel_coords`; `num_voxels` for
            a point that belongs to none.
        num_voxels: number of voxels V.
        voxel_coords: `(V, 4)` int32 sample, z, y, x; None for a dense grid, whose row is
            `(sample * y_size + y) * x_size + x`.
    """

    points: torch.Tensor
    samples: torch.Tensor
    coords: torch.Tensor
    voxel_of_point: torch.Tensor
    num_voxels: int
    voxel_coords: torch.Tensor | None


@dataclass(frozen=True)
class FilledVoxels:
    """Voxels that hold points, with room for P of them.

    Attributes:
        points: `(V, P, 4)`, zeros where a voxel has no more.
        num_points: `(V,)` int32, from 1 to P.
        coords: `(V, 4)` int32 sample, z, y, x.
    """

    points: torch.Tensor
    num_points: torch.Tensor
    coords: torch.Tensor


def assign_dense(
    points: torch.Tensor,
    samples: torch.Tensor,
    valid: torch.Tensor | None,
    batch_size: int,
    grid: VoxelGrid,
) -> VoxelAssignment:
    """Every pillar of the grid is a voxel, empty or not. Shapes never depend on the points.

    >>> grid = VoxelGrid((1.0, 1.0, 4.0), (0, 0, -3, 4, 4, 1))
    >>> points = torch.tensor([[2.5, 1.5, 0.0, 0.5], [9.0, 0.0, 0.0, 0.5]])
    >>> assign_dense(points, torch.zeros(2, dtype=torch.int64), None, 1, grid).voxel_of_point
    tensor([ 6, 16])
    """
    _, ny, nx = grid.shape
    coords, inside = _voxelize(points, valid, grid)
    count = batch_size * ny * nx
    row = (samples * ny + coords[:, 1]) * nx + coords[:, 2]
    return VoxelAssignment(points, samples, coords, torch.where(inside, row, count), count, None)


def assign_sparse(
    points: torch.Tensor,
    samples: torch.Tensor,
    valid: torch.Tensor | None,
    grid: VoxelGrid,
) -> VoxelAssignment:
    """Voxels that hold a point. Their number is known once the device has counted them, twice:
    the points that are inside, and their different voxels.

    >>> grid = VoxelGrid((1.0, 1.0, 4.0), (0, 0, -3, 4, 4, 1))
    >>> points = torch.tensor([[2.5, 1.5, 0.0, 0.5], [9.0, 0.0, 0.0, 0.5]])
    >>> assign_sparse(points, torch.zeros(2, dtype=torch.int64), None, grid).voxel_coords
    tensor([[0, 0, 1, 2]], dtype=torch.int32)
    """
    nz, ny, nx = grid.shape
    coords, inside = _voxelize(points, valid, grid)
    points, samples, coords = points[inside], samples[inside], coords[inside]
    key = ((samples * nz + coords[:, 0]) * ny + coords[:, 1]) * nx + coords[:, 2]
    keys, voxel_of_point = torch.unique(key, return_inverse=True)
    voxel_coords = torch.stack(
        [keys // (nz * ny * nx), keys // (ny * nx) % nz, keys // nx % ny, keys % nx], 1
    ).int()
    return VoxelAssignment(points, samples, coords, voxel_of_point, len(keys), voxel_coords)


def fill_voxels(
    points: torch.Tensor,
    samples: torch.Tensor,
    valid: torch.Tensor | None,
    batch_size: int,
    grid: VoxelGrid,
    max_points: int,
    max_voxels: int,
) -> FilledVoxels:
    """The first `max_points` points of each of the first `max_voxels` voxels of every sample.

    Waits for the device once, to learn how many voxels there are.

    >>> grid = VoxelGrid((1.0, 1.0, 4.0), (0, 0, -3, 4, 4, 1))
    >>> points = torch.tensor([[2.5, 1.5, 0.0, 0.5], [2.6, 1.5, 0.0, 0.5], [9.0, 0.0, 0.0, 0.5]])
    >>> fill_voxels(points, torch.zeros(3, dtype=torch.int64), None, 1, grid, 5, 100).num_points
    tensor([2], dtype=torch.int32)
    """
    filled = []
    for sample in range(batch_size):
        mine = samples == sample if valid is None else (samples == sample) & valid
        # Infinity is outside of every grid; selecting would make the host wait for a number.
        cloud = torch.where(mine[:, None], points, torch.inf)
        filled.append(
            hard_voxelize(cloud, grid.voxel_size, grid.point_cloud_range, max_points, max_voxels)
        )
    num_points = torch.cat([voxels.num_points for voxels in filled])
    (rows,) = torch.nonzero(num_points, as_tuple=True)
    features = torch.cat([voxels.features for voxels in filled])[rows]
    coords = torch.cat([voxels.coords for voxels in filled])[rows]
    sample_of_voxel = (rows // max_voxels).int()
    return FilledVoxels(
        features, num_points[rows], torch.cat([sample_of_voxel[:, None], coords], 1)
    )


def _voxelize(
    points: torch.Tensor, valid: torch.Tensor | None, grid: VoxelGrid
) -> tuple[torch.Tensor, torch.Tensor]:
    coords = dynamic_voxelize(points, grid.voxel_size, grid.point_cloud_range)
    inside = coords[:, 0] >= 0
    return coords, inside if valid is None else inside & valid
