"""The first stage's parts that run differently from mmdet3d's, against plain references."""

import pytest
import torch
from torch.nn import functional

from kd3d_core.detectors.anchor_detector import DetectorInput
from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.detectors.fusion import (
    ImageFeatures,
    _reduce,
    sample_pixels,
)
from kd3d_core.detectors.lite import lite
from kd3d_core.detectors.voxels import VoxelAssignment

POINTS, BATCH = 4000, 3


def assignment(points: torch.Tensor, samples: torch.Tensor, voxel: torch.Tensor, num_voxels: int):
    """Points in voxels that are given, not computed."""
    return VoxelAssignment(
        points=points,
        samples=samples,
        coords=torch.zeros(len(points), 3, dtype=torch.int64),
        voxel_of_point=voxel,
        num_voxels=num_voxels,
        voxel_coords=None,
    )


def test_each_point_sees_its_own_image_and_zeros_beyond():
    """Also within a pixel of the borders, where another sample's map is the neighbour."""
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(BATCH, 4, *size, generator=generator, requires_grad=True)
        for size in ((24, 80), (12, 40), (6, 20))
    ]
    # Pixels of a camera of focal length 1, half of them beyond the image of 20 x 6.
    low, high = torch.tensor([-6.0, -6.0, 1.0, 0.0]), torch.tensor([26.0, 12.0, 1.0, 0.0])
    points = low + torch.rand(POINTS, 4, generator=generator) * (high - low)
    samples = torch.randint(0, BATCH, (POINTS,), generator=generator)
    projection = torch.eye(4)[:3].expand(BATCH, 3, 4)
    voxels = assignment(points, samples, samples, BATCH)
    found = sample_pixels(ImageFeatures(tuple(maps), projection, (6, 20)), voxels)

    where = points[:, :2] * torch.tensor([2 / 20, 2 / 6]) - 1
    expected = torch.empty(POINTS, 12)
    for sample in range(BATCH):
        mine = samples == sample
        grid = where[mine][None, None]
        levels = [
            functional.grid_sample(level[sample : sample + 1], grid, align_corners=False)
            for level in maps
        ]
        expected[mine] = torch.cat(levels, 1)[0, :, 0].t()
    assert 0.1 < (expected == 0).all(1).float().mean() < 0.9
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    weights = torch.randn(found.shape, generator=generator)
    ours = torch.autograd.grad((found * weights).sum(), maps)
    theirs = torch.autograd.grad((expected * weights).sum(), maps)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-3, rtol=0)


def test_many_equal_points_share_a_gradient_in_half_precision():
    """bf16 counts to 256."""
    features = torch.ones(1000, 2, dtype=torch.bfloat16, requires_grad=True)
    rows = _reduce(features, assignment(features, *[torch.zeros(1000).long()] * 2, 1), "amax")
    rows.sum().backward()
    assert features.grad.sum(0).tolist() == pytest.approx([1, 1], rel=0.01)


def test_maximum_of_a_voxel_and_its_gradient():
    """Against a loop over voxels; equal highest points share the gradient, as in `amax`."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(300, 4, generator=generator)
    points[100:200] = points[:100]
    points.requires_grad_()
    voxel = torch.randint(0, 40, (300,), generator=generator)
    voxel[100:150] = voxel[:50]
    voxel[voxel >= 30] = 50  # of no voxel; 40 to 49 are empty
    voxels = assignment(points, torch.zeros(300).long(), voxel, 50)
    found = _reduce(points, voxels, "amax")

    expected = torch.zeros(50, 4)
    for row in voxel[voxel < 50].unique():
        expected[row] = points[voxel == row].amax(0)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator)
    (ours,) = torch.autograd.grad((found * weights).sum(), points)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), points)
    torch.testing.assert_close(ours, theirs)
    assert ours[:50].any()


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", True), ("AVX512", False)])
def test_the_canvas_to_train_on_is_laid_out_for_the_cpu(monkeypatch, capability, expected):
    """Its numbers are the same, and those that detect are never copied."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    detector = lite(DecodeConfig(), (0.0, -12.8, -3.0, 25.6, 12.8, 1.0), (0.4, 0.4, 4.0))
    cloud, image = torch.rand(50, 4), torch.rand(1, 3, 64, 64)
    owners = torch.zeros(50, dtype=torch.int64)
    frames = DetectorInput(cloud, owners, image, torch.eye(4)[None, :3])
    canvas = detector.eval().bev_input(frames).canvas
    assert canvas.is_contiguous() == expected
    with torch.no_grad():
        same = detector.bev_input(frames).canvas
    assert torch.equal(canvas, same)
    assert not same.is_contiguous()
