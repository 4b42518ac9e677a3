"""Voxelisation against plain loops over points."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kd3d_core.ops import dynamic_voxelize, hard_voxelize

VOXEL_SIZE = (0.5, 0.25, 1.0)
RANGE = (0.0, -2.0, -3.0, 4.0, 2.0, 1.0)
OUT_OF_RANGE = [-1, -1, -1]


def voxel_of(point: np.ndarray) -> list[int]:
    """z, y, x by the definition, in float64."""
    cell = []
    for axis in (2, 1, 0):
        extent = round((RANGE[axis + 3] - RANGE[axis]) / VOXEL_SIZE[axis])
        offset = (float(point[axis]) - RANGE[axis]) / VOXEL_SIZE[axis]
        if not math.isfinite(offset) or not 0 <= math.floor(offset) < extent:
            return OUT_OF_RANGE
        cell.append(math.floor(offset))
    return cell


def points_around_the_range(count: int, dtype: torch.dtype) -> Tensor:
    low, high = torch.tensor(RANGE[:3]), torch.tensor(RANGE[3:])
    xyz = low - 1 + torch.rand(count, 3) * (high - low + 2)
    return torch.cat([xyz, torch.rand(count, 1)], dim=1).to(dtype)


class TestDynamicVoxelize:
    def test_equals_a_loop_over_points(self, device, dtype):
        points = points_around_the_range(500, dtype)
        coords = dynamic_voxelize(points.to(device), VOXEL_SIZE, RANGE)
        expected = [voxel_of(point) for point in points.numpy()]
        assert coords.dtype == torch.int32
        assert coords.tolist() == expected
        assert OUT_OF_RANGE in expected
        assert any(row != OUT_OF_RANGE for row in expected)

    @pytest.mark.parametrize(
        ("point", "expected"),
        [
            ((0.0, -2.0, -3.0), [0, 0, 0]),  # the lower corner is inside
            ((4.0, 0.0, 0.0), OUT_OF_RANGE),  # the upper face is outside, on each axis
            ((1.0, 2.0, 0.0), OUT_OF_RANGE),
            ((1.0, 0.0, 1.0), OUT_OF_RANGE),
            ((math.nextafter(4.0, 0.0), 1.999, 0.999), [3, 15, 7]),
            ((-1e-7, 0.0, 0.0), OUT_OF_RANGE),
            ((0.5, -1.75, -2.0), [1, 1, 1]),  # a shared face belongs to the upper voxel
            ((math.nan, 0.0, 0.0), OUT_OF_RANGE),
            ((1.0, math.inf, 0.0), OUT_OF_RANGE),
            ((1.0, 0.0, -math.inf), OUT_OF_RANGE),
            ((3e38, 0.0, 0.0), OUT_OF_RANGE),  # beyond any integer
        ],
    )
    def test_edges(self, device, point, expected):
        points = torch.tensor([point], dtype=torch.float64, device=device)
        assert dynamic_voxelize(points, VOXEL_SIZE, RANGE).tolist() == [expected]

    def test_half_precision_is_computed_in_single(self, device):
        """60.03 m is 60.03125 in half precision, voxel 1200; a division in half gives 1201."""
        points = torch.tensor([[60.03, 0.0, 0.0]], dtype=torch.float16, device=device)
        coords = dynamic_voxelize(points, (0.05, 0.05, 0.1), (0, -40, -3, 70.4, 40, 1))
        assert coords[0, 2].item() == 1200

    def test_sizes_and_range_may_be_tensors(self, device):
        points = points_around_the_range(50, torch.float32).to(device)
        as_tensors = dynamic_voxelize(points, torch.tensor(VOXEL_SIZE), torch.tensor(RANGE))
        assert torch.equal(as_tensors, dynamic_voxelize(points, VOXEL_SIZE, RANGE))

    def test_no_points(self, device):
        assert dynamic_voxelize(torch.zeros(0, 4, device=device), VOXEL_SIZE, RANGE).shape == (0, 3)


def hard_voxels_by_loop(points: np.ndarray, max_points: int, max_voxels: int) -> dict:
    """Voxel -> its points, in the order in which voxels appear."""
    voxels: dict[tuple[int, ...], list[list[float]]] = {}
    for point in points:
        cell = voxel_of(point)
        if cell == OUT_OF_RANGE:
            continue
        if tuple(cell) not in voxels:
            if len(voxels) == max_voxels:
                continue
            voxels[tuple(cell)] = []
        if len(voxels[tuple(cell)]) < max_points:
            voxels[tuple(cell)].append(point.tolist())
    return voxels


class TestHardVoxelize:
    @pytest.mark.parametrize(
        ("max_points", "max_voxels"), [(5, 1000), (2, 1000), (3, 40), (1, 1), (40, 300)]
    )
    def test_equals_a_loop_over_points(self, device, dtype, max_points, max_voxels):
        points = points_around_the_range(900, dtype)
        result = hard_voxelize(points.to(device), VOXEL_SIZE, RANGE, max_points, max_voxels)
        expected = hard_voxels_by_loop(points.numpy(), max_points, max_voxels)

        count = int(result.num_voxels)
        assert count == len(expected)
        assert [tuple(row) for row in result.coords[:count].tolist()] == list(expected)
        assert result.num_points[:count].tolist() == [len(held) for held in expected.values()]
        for features, held in zip(result.features.tolist(), expected.values(), strict=False):
            assert features == held + [[0.0] * 4] * (max_points - len(held))
        assert not result.num_points[count:].any()
        assert not result.features[count:].any()
        assert not result.coords[count:].any()

    @pytest.mark.parametrize("points", [torch.zeros(0, 4), torch.full((3, 4), 99.0)])
    def test_nothing_in_range(self, device, points):
        result = hard_voxelize(points.to(device), VOXEL_SIZE, RANGE, 5, 10)
        assert int(result.num_voxels) == 0
        assert result.features.shape == (10, 5, 4)
        assert not result.features.any()
