"""Fused lifting against sampling a frustum, in float64; objects land where they are."""

import numpy as np
import torch
from torch.nn import functional

from kd3d_core.detectors.cmkd.bins import DepthBins
from kd3d_core.detectors.cmkd.lifting import grid_centres, lift, lifting_plan
from kd3d_core.detectors.voxels import VoxelGrid

BINS = DepthBins(2.0, 30.0, 12)
GRID = VoxelGrid((1.6, 1.6, 1.0), (0.0, -12.8, -3.0, 25.6, 12.8, 1.0))
STRIDE, SIZE = 8, (6, 20)  # of an image of 48 x 160
PROJECTION = torch.tensor(
    [[80.0, -93.0, 0.3, 2.0], [22.0, 0.5, -93.0, 1.0], [1.0, 0.01, 0.002, -0.27]]
)


def maps(dtype=torch.float64, channels=3):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(channels, *SIZE, generator=generator, dtype=dtype)
    logits = torch.randn(BINS.count + 1, *SIZE, generator=generator, dtype=dtype)
    return features, logits.softmax(0)[:-1]


def by_frustum(features, probabilities, centres, projection):
    """The plain way: the frustum in full, sampled by torch's own trilinear interpolation."""
    frustum = features[:, None] * probabilities[None]  # (C, D, h, w)
    u, v, depth = (centres @ projection[:, :3].T + projection[:, 3]).unbind(1)
    width = 2 * (BINS.high - BINS.low) / (BINS.count * (BINS.count + 1))
    index = -0.5 + 0.5 * (1 + 8 * (depth - BINS.low) / width).clamp(min=0).sqrt()
    column = (u / depth + 0.5) / STRIDE
    row = (v / depth + 0.5) / STRIDE
    height, columns = SIZE
    place = torch.stack([column / columns, row / height, index / BINS.count], -1) * 2 - 1
    place = torch.where((depth > 1e-3)[:, None], place, -9.0)
    sampled = functional.grid_sample(
        frustum[None], place.view(1, 1, 1, -1, 3), padding_mode="zeros", align_corners=False
    )
    return sampled[0, :, 0, 0].T


def plan(dtype=torch.float64):
    centres = grid_centres(GRID).to(dtype)
    return lifting_plan(centres, PROJECTION.to(dtype), SIZE, STRIDE, BINS)


def test_a_voxel_is_what_a_frustum_in_full_gives():
    features, probabilities = maps()
    expected = by_frustum(features, probabilities, grid_centres(GRID).double(), PROJECTION.double())
    found = lift(features, probabilities, plan())
    assert (expected.abs().sum(1) > 0).float().mean() > 0.2
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    single = lift(features.float(), probabilities.float(), plan(torch.float32))
    torch.testing.assert_close(single.double(), expected, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_the_frustum():
    gradients = []
    for way in (by_frustum, None):
        features, probabilities = (part.requires_grad_() for part in maps())
        if way is None:
            voxels = lift(features, probabilities, plan())
        else:
            voxels = way(features, probabilities, grid_centres(GRID).double(), PROJECTION.double())
        (voxels * torch.linspace(-1, 1, voxels.numel()).view_as(voxels)).sum().backward()
        gradients.append((features.grad, probabilities.grad))
    for expected, found in zip(*gradients, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_gradcheck():
    centres = grid_centres(GRID).double()[::37]
    small = lifting_plan(centres, PROJECTION.double(), SIZE, STRIDE, BINS)
    features, probabilities = (part.requires_grad_() for part in maps(channels=2))
    assert torch.autograd.gradcheck(
        lambda f, p: lift(f, p, small), (features, probabilities), fast_mode=True
    )


def test_nothing_behind_the_camera_beyond_the_bins_or_out_of_view():
    centres = torch.tensor(
        [[-8.0, 0, 0], [40.0, 0, 0], [1.0, 0, 0], [10.0, 30.0, 0], [10.0, 0, 0]]
    ).double()
    found = lift(
        torch.ones(1, *SIZE).double(),
        torch.ones(BINS.count, *SIZE).double(),
        lifting_plan(centres, PROJECTION.double(), SIZE, STRIDE, BINS),
    )
    assert found[:, 0].tolist() == [0, 0, 0, 0, 1]


def test_what_is_behind_the_camera_is_at_no_depth_at_all():
    """Also where the nearest bin begins as near as that."""
    behind = torch.tensor([[-8.0, 0, 0], [-0.5, -1.0, -0.3]]).double()
    plan = lifting_plan(behind, PROJECTION.double(), SIZE, STRIDE, DepthBins(0.5, 30.0, 12))
    found = lift(torch.ones(1, *SIZE).double(), torch.ones(12, *SIZE).double(), plan)
    assert found.abs().sum() == 0


def test_an_object_at_its_true_depth_lies_in_its_true_cell():
    """A distribution on the true depth of every pixel puts the energy of an object where it is."""
    camera = np.array([[0, -100.0, 0, 0], [0, 0, -100.0, 0], [1.0, 0, 0, 0]])
    camera[0] += 80 * camera[2]
    camera[1] += 40 * camera[2]
    grid = VoxelGrid((0.8, 0.8, 0.5), (0.0, -12.8, -3.0, 38.4, 12.8, 1.0))
    bins = DepthBins(1.0, 38.4, 64)
    size, projection = (12, 20), torch.from_numpy(camera)
    for x, y in ((8.4, 1.2), (14.8, -3.6), (22.0, 4.4)):
        points = np.array([[x, y + dy, z] for dy in (-0.6, 0, 0.6) for z in (-1.4, -0.9, -0.4)])
        pixels = points @ camera[:, :3].T
        column, row = (pixels[:, :2] / pixels[:, 2:] / STRIDE).astype(int).T
        features = torch.zeros(1, *size).double()
        features[0, row, column] = 1
        depth = torch.full(size, 1e3).double()
        depth[row, column] = x
        certain = torch.nn.functional.one_hot(bins.classes(depth), bins.count + 1)
        certain = certain.permute(2, 0, 1)[:-1].double()
        voxels = lift(
            features,
            certain,
            lifting_plan(grid_centres(grid).double(), projection, size, STRIDE, bins),
        )
        energy = voxels.view(*grid.shape).sum(0)
        far, across = (energy.sum(axis).argmax() for axis in (0, 1))
        assert abs(0.8 * (float(far) + 0.5) - x) <= 0.8
        assert abs(0.8 * (float(across) + 0.5) - 12.8 - y) <= 0.8
        rows, columns = torch.meshgrid(*(torch.arange(n) for n in energy.shape), indexing="ij")
        near = ((rows - across).abs() <= 2) & ((columns - far).abs() <= 2)
        assert energy[near].sum() > 0.9 * energy.sum() > 0


def test_the_lifting_can_be_exported():
    features, probabilities = maps(torch.float32)

    class Lifting(torch.nn.Module):
        def forward(self, features, probabilities, centres, projection):
            where = lifting_plan(centres, projection, SIZE, STRIDE, BINS)
            return lift(features, probabilities, where)

    inputs = (features, probabilities, grid_centres(GRID), PROJECTION)
    program = torch.export.export(Lifting(), inputs)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("grid_sampler" in name or "nonzero" in name for name in names)
    torch.testing.assert_close(
        program.module()(*inputs), lift(features, probabilities, plan(torch.float32))
    )
