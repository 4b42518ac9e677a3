"""Area in common of rotated rectangles; `tests/core/ops/test_rotated.py` has the hard cases."""

import numpy as np
import pytest
import torch
from shapely import affinity
from shapely.geometry import Polygon, box

from kd3d_core.geometry.rectangles import intersection_area


def random_rectangles(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.column_stack(
        [random.normal(0, 2, (count, 2)), random.uniform(0.3, 4, (count, 2)),
         random.uniform(-7, 7, count)]
    )  # fmt: skip


def polygon(rectangle: np.ndarray) -> Polygon:
    x, y, length, width, angle = rectangle
    upright = box(x - length / 2, y - width / 2, x + length / 2, y + width / 2)
    return affinity.rotate(upright, angle, use_radians=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_polygons_for_arrays_and_tensors(dtype) -> None:
    ours, others = (random_rectangles(30, seed).astype(dtype) for seed in (0, 1))
    expected = np.array([[polygon(a).intersection(polygon(b)).area for b in others] for a in ours])
    assert (expected > 1).sum() > 50
    area = intersection_area(ours[:, None], others[None])
    assert isinstance(area, np.ndarray)
    assert area.dtype == dtype
    np.testing.assert_allclose(area, expected, atol=1e-4 if dtype == np.float32 else 1e-10)
    tensor = intersection_area(torch.from_numpy(ours)[:, None], torch.from_numpy(others)[None])
    np.testing.assert_allclose(tensor, area, atol=1e-5 if dtype == np.float32 else 1e-12)


def test_is_between_0_and_the_smaller_area() -> None:
    ours = random_rectangles(50, 2).astype(np.float32)
    ours[:10, 2] = 0
    area = intersection_area(ours[:, None], ours[None])
    smaller = np.minimum.outer(ours[:, 2] * ours[:, 3], ours[:, 2] * ours[:, 3])
    assert (area >= 0).all()
    assert (area <= smaller).all()
    np.testing.assert_allclose(np.diag(area), np.diag(smaller), rtol=1e-5)


def test_nothing_to_compare() -> None:
    assert intersection_area(np.zeros((0, 1, 5)), np.zeros((1, 3, 5))).shape == (0, 3)
