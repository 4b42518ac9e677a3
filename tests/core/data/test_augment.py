"""Augmentation: one world for points, boxes, image and projection."""

import math

import numpy as np
import pytest
import torch

from kd3d_core.data.augment import Augmentation, AugmentConfig
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.boxes import points_in_boxes

PROJECTION = torch.tensor(
    [[300.0, 0, 200, 4.4], [0, 300, 60, 0.2], [0, 0, 1, 0.003]], dtype=torch.float64
) @ torch.tensor(
    [[0.0, -1, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]], dtype=torch.float64
)

CHANGES = [
    Augmentation(),
    Augmentation(flip=True),
    Augmentation(angle=0.7),
    Augmentation(scale=1.05),
    Augmentation(image_scale=1.2),
    Augmentation(image_scale=0.85),
    Augmentation(True, -0.4, 0.95, 1.1, 0.9, 1.2, 0.8),
]


def project(points: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    homogeneous = points[:, :3].double() @ matrix[:, :3].double().T + matrix[:, 3].double()
    return homogeneous[:, :2] / homogeneous[:, 2:]


@pytest.mark.parametrize("change", CHANGES)
def test_points_still_project_to_the_pixels_that_show_them(change):
    """A blob painted at a point's pixel is found where the changed point projects."""
    point = torch.tensor([[15.0, 1.0, -0.6, 0.3]])
    ((u, v),) = project(point, PROJECTION).tolist()
    rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(400.0), indexing="ij")
    blob = 255 * torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 30)
    image, projection = change.image(blob.expand(3, -1, -1), PROJECTION)
    assert image.shape == (3, 120, 400)
    weight = image[0].double()
    weight = weight - weight.min()
    centroid = torch.stack([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    (expected,) = project(change.points(point), projection)
    assert centroid.tolist() == pytest.approx(expected.tolist(), abs=0.1)


@pytest.mark.parametrize("change", CHANGES)
def test_boxes_hold_the_same_points_afterwards(change):
    rng = np.random.default_rng(3)
    boxes = torch.tensor([[10.0, 3, -1.7, 4, 1.8, 1.5, 0.4], [12, -4, -1.6, 3.5, 1.6, 1.5, -2.9]])
    points = torch.from_numpy(rng.uniform([6, -8, -2, 0], [16, 8, 0, 1], (4000, 4)))
    before = points_in_boxes(points, boxes.double())
    after = points_in_boxes(change.points(points), change.boxes(boxes.double()))
    assert before.any(0).all()
    assert (before != after).sum() <= 2  # on a face, up to rounding
    assert torch.equal(change.points(points)[:, 3], points[:, 3])


def test_a_flip_mirrors_heading_and_side():
    boxes = torch.tensor([[10.0, 3, -1.7, 4, 1.8, 1.5, math.pi / 3]])
    flipped = Augmentation(flip=True).boxes(boxes)[0]
    assert flipped[1] == -3
    assert flipped[6] == pytest.approx(-math.pi / 3)


def test_draws_follow_the_generator_and_keep_to_their_bounds():
    config = AugmentConfig(0.5, 0.3, (0.9, 1.1), (0.8, 1.2), 0.1, 0.2, 0.3)
    draw = [config.draw(torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert draw == [config.draw(torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert 60 < sum(change.flip for change in draw) < 140
    for name, low, high in [
        ("angle", -0.3, 0.3), ("scale", 0.9, 1.1), ("image_scale", 0.8, 1.2),
        ("brightness", 0.9, 1.1), ("contrast", 0.8, 1.2), ("saturation", 0.7, 1.3),
    ]:  # fmt: skip
        values = [getattr(change, name) for change in draw]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high


def test_nothing_configured_changes_nothing():
    config = AugmentConfig(0, 0, (1, 1), (1, 1), 0, 0, 0)
    assert config.draw(torch.Generator().manual_seed(0)) == Augmentation()


@pytest.mark.parametrize("settings", [{"flip": 1.5}, {"scale": (1.1, 0.9)}, {"rotation": -1}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        AugmentConfig(**settings)
