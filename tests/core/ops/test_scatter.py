"""Point-to-voxel reduction against plain loops over points."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kd3d_core.errors import Kd3dError
from kd3d_core.ops import group_points, reduce_points, scatter_points

REDUCE = {"max": np.max, "mean": np.mean, "sum": np.sum}


def random_coords(count: int, columns: int) -> Tensor:
    """Few distinct voxels, and some points out of range in one column or in all."""
    coords = torch.randint(0, 3, (count, columns), dtype=torch.int32)
    coords[torch.rand(count) < 0.1] = -1
    coords[torch.rand(count) < 0.1, columns - 1] = -1
    return coords


def voxels_by_loop(coords: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Voxel -> its points, voxels in ascending order."""
    voxels: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(coords.tolist()):
        if min(row) >= 0:
            voxels.setdefault(tuple(row), []).append(index)
    return dict(sorted(voxels.items()))


@pytest.mark.parametrize("columns", [3, 4], ids=["one sample", "batch"])
class TestAgainstLoops:
    @pytest.mark.parametrize("reduce", REDUCE)
    def test_features(self, device, dtype, columns, reduce):
        coords = random_coords(200, columns)
        features = torch.randn(200, 5, dtype=dtype)
        result = scatter_points(features.to(device), coords.to(device), reduce)
        expected = np.stack(
            [
                REDUCE[reduce](features.double().numpy()[points], axis=0)
                for points in voxels_by_loop(coords).values()
            ]
        )
        assert result.features.dtype == dtype
        np.testing.assert_allclose(result.features.cpu(), expected, rtol=1e-5, atol=1e-5)

    def test_grouping(self, device, columns):
        coords = random_coords(200, columns)
        groups = group_points(coords.to(device))
        expected = voxels_by_loop(coords)
        assert groups.coords.dtype == coords.dtype
        assert [tuple(row) for row in groups.coords.tolist()] == list(expected)
        assert groups.counts.tolist() == [len(points) for points in expected.values()]
        for index, voxel in enumerate(groups.point_to_voxel.tolist()):
            if voxel < 0:
                assert coords[index].min() < 0
            else:
                assert groups.coords[voxel].tolist() == coords[index].tolist()


@pytest.mark.parametrize("reduce", REDUCE)
class TestGradients:
    def test_gradcheck(self, device, reduce):
        coords = random_coords(30, 3).to(device)
        # Distinct values, so that the maximum has a derivative.
        features = torch.randperm(90, dtype=torch.float64).view(30, 3).to(device)
        groups = group_points(coords)
        assert torch.autograd.gradcheck(
            lambda x: reduce_points(x, groups, reduce), features.requires_grad_()
        )

    def test_dropped_points_get_none(self, device, reduce):
        coords = random_coords(50, 3).to(device)
        features = torch.randn(50, 2, device=device, requires_grad=True)
        scatter_points(features, coords, reduce).features.sum().backward()
        dropped = (coords < 0).any(dim=1)
        assert dropped.any()
        assert not features.grad[dropped].any()

    @pytest.mark.parametrize("coords", [torch.zeros(0, 3).int(), -torch.ones(4, 3).int()])
    def test_no_voxels(self, device, reduce, coords):
        features = torch.randn(len(coords), 2, device=device, requires_grad=True)
        result = scatter_points(features, coords.to(device), reduce)
        result.features.sum().backward()
        assert result.features.shape == (0, 2)
        assert result.coords.shape == (0, 3)
        assert result.counts.shape == (0,)
        assert result.point_to_voxel.tolist() == [-1] * len(coords)
        assert not features.grad.any()


class TestMax:
    def test_of_tied_points_the_first_gets_the_gradient(self, device):
        coords = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
        features = torch.tensor([[7.0], [2.0], [5.0], [5.0], [7.0]], device=device)
        features.requires_grad_()
        voxels = scatter_points(features, coords.to(device), "max").features
        voxels.backward(torch.tensor([[10.0], [20.0]], device=device))
        assert voxels.tolist() == [[5.0], [7.0]]
        assert features.grad.tolist() == [[20.0], [0.0], [10.0], [0.0], [0.0]]

    def test_of_infinities_and_nan(self, device):
        """A diverged training run must show itself, not read outside the array."""
        coords = torch.zeros(3, 3, dtype=torch.int32, device=device)
        features = torch.tensor([[-torch.inf, 1.0], [-torch.inf, torch.nan], [-torch.inf, 3.0]])
        features = features.to(device).requires_grad_()
        voxel = scatter_points(features, coords, "max").features[0]
        voxel.sum().backward()
        assert voxel[0] == -torch.inf
        assert voxel[1].isnan()
        assert features.grad.tolist() == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]


def test_unknown_reduction_is_named():
    with pytest.raises(Kd3dError, match="'median'"):
        scatter_points(torch.zeros(1, 1), torch.zeros(1, 3).int(), "median")  # type: ignore[arg-type]
