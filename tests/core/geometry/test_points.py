"""Point clouds: transforms, ranges and sparse depth images."""

import numpy as np
import pytest
import torch

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.geometry.points import depth_map, matching, transform

RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
PROJECTION = np.array([[100.0, 0, 50, 0], [0, 100.0, 20, 0], [0, 0, 1, 0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transform_in_numpy_and_torch(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    to_from = np.eye(4)
    to_from[:3] = rng.normal(size=(3, 4))
    points = torch.from_numpy(rng.normal(size=(50, 3))).to(dtype)
    moved = transform(points, to_from)
    assert moved.dtype == dtype
    homogeneous = np.column_stack([points.numpy(), np.ones(50)])
    np.testing.assert_allclose(moved, (homogeneous @ to_from.T)[:, :3], atol=1e-5)
    np.testing.assert_allclose(moved, transform(points.numpy(), to_from), atol=1e-5)
    back = transform(moved.double(), np.linalg.inv(to_from))
    np.testing.assert_allclose(back, points, atol=1e-4)


def test_matching_follows_kind_dtype_and_device() -> None:
    matrix = np.eye(3)
    assert matching(matrix, np.zeros(1, np.float32)).dtype == np.float32
    tensor = matching(matrix, torch.zeros(1, dtype=torch.float16))
    assert tensor.dtype == torch.float16


def test_the_nearest_point_wins_a_pixel() -> None:
    ray = np.array([0.1, 0.05, 1.0])
    points = np.array([ray * 20, ray * 5, ray * 9])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        image = depth_map(points[order], PROJECTION, (40, 100))
        assert image.dtype == np.float32
        assert image.shape == (40, 100)
        assert image[25, 60] == 5
        assert np.count_nonzero(image) == 1


def test_points_behind_beside_or_broken_leave_no_trace() -> None:
    points = np.array(
        [[0, 0, -5.0], [0, 0, 0], [100, 0, 5], [0, -50, 5], [np.nan, 0, 5], [0, 0, np.nan]]
    )
    with np.errstate(invalid="ignore"):
        assert not depth_map(points, PROJECTION, (40, 100)).any()
    assert not depth_map(np.zeros((0, 4)), PROJECTION, (40, 100)).any()


def test_pixels_have_their_centre_at_integers() -> None:
    def hit(u: float, v: float) -> tuple[int, int] | None:
        point = np.array([[(u - 50) / 100 * 10, (v - 20) / 100 * 10, 10.0]])
        rows, columns = np.nonzero(depth_map(point, PROJECTION, (40, 100)))
        return (int(columns[0]), int(rows[0])) if len(rows) else None

    assert hit(0, 0) == (0, 0)
    assert hit(-0.4, -0.4) == (0, 0)
    assert hit(-0.6, 0) is None
    assert hit(12.4, 7.6) == (12, 8)
    assert hit(99.4, 39.4) == (99, 39)
    assert hit(99.6, 39) is None


def test_a_real_scan_against_plain_loops(tracking: KittiDataset) -> None:
    frame = tracking[0]
    camera = frame.camera()
    points = frame.points_in_view()
    image = depth_map(points, camera.image_from_lidar, (camera.height, camera.width))
    reference = np.zeros_like(image)
    for x, y, z, _ in points.astype(np.float64):
        u, v, depth = camera.image_from_lidar @ [x, y, z, 1]
        if depth <= 0.1:
            continue
        column, row = round(u / depth), round(v / depth)
        if 0 <= column < camera.width and 0 <= row < camera.height:
            known = reference[row, column]
            reference[row, column] = min(known, depth) if known else depth
    np.testing.assert_allclose(image, reference, rtol=1e-6)
    assert 15_000 < np.count_nonzero(image) <= len(points)
