"""Rectified images, against OpenCV's own lens models and a grid of straight lines."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from kd3d_core.extract.calibration import Rectifier
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.lens import Distortion

WIDTH, HEIGHT = 640, 480
K = np.array([[310.0, 0, 322], [0, 305, 236], [0, 0, 1]])
PROJECTION = np.array([[280.0, 0, 318, 0], [0, 282, 241, 0], [0, 0, 1, 0]])
R = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]
LENSES = {
    "plumb_bob": [-0.25, 0.06, 0.001, -0.0005, -0.01],
    "rational_polynomial": [0.3, -0.05, 0.0004, 0.0002, 0.003, 0.55, -0.02, 0.004],
    "equidistant": [-0.02, 0.004, -0.002, 0.0003],
}
SPACING, LINE_WIDTH = 0.25, 0.012  # of the grid, in tangents


def camera(model: str) -> PinholeCamera:
    lens = Distortion(model, np.array(LENSES[model]), K, R)
    return PinholeCamera(PROJECTION, WIDTH, HEIGHT, np.eye(4), lens)


def raw_grid(lens: Distortion) -> np.ndarray:
    """A grid in front of the rectified camera as the raw one sees it, by OpenCV's inverse."""
    u, v = np.meshgrid(np.arange(WIDTH, dtype=float), np.arange(HEIGHT, dtype=float))
    pixels = np.stack([u, v], -1).reshape(-1, 1, 2)
    precise = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-10)
    if lens.model == "equidistant":
        where = cv2.fisheye.undistortPoints(pixels, K, lens.coefficients, R=R, criteria=precise)
    else:
        where = cv2.undistortPointsIter(pixels, K, lens.coefficients, R, None, precise)
    offsets = np.abs((where + SPACING / 2) % SPACING - SPACING / 2).min(-1)
    bright = 250 * np.exp(-((offsets / LINE_WIDTH) ** 2))
    return np.repeat(bright.reshape(HEIGHT, WIDTH, 1), 3, 2).astype(np.uint8)


def worst_bend(image: np.ndarray, focal: float, center: float) -> float:
    """How far vertical lines are from straight ones in pixels, and from where they belong."""
    worst = 0.0
    for number in range(-3, 4):
        expected = center + focal * SPACING * number
        columns = np.arange(round(expected) - 7, round(expected) + 8)
        rows = [  # between horizontal lines, and within the picture
            row
            for row in range(8, len(image) - 8)
            if image[row, columns[0]] < 25 and image[row, columns].max() > 150
        ]
        assert len(rows) > 100
        weights = image[np.ix_(rows, columns)].astype(float)
        found = (weights * columns).sum(1) / weights.sum(1)
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst


@pytest.mark.parametrize("model", ["equidistant", "plumb_bob"])
def test_lines_are_straight_to_half_a_pixel(model: str) -> None:
    bent = camera(model)
    assert bent.distortion is not None
    image, straight = Rectifier()(raw_grid(bent.distortion), bent)
    assert straight.distortion is None
    np.testing.assert_array_equal(straight.projection, PROJECTION)
    assert worst_bend(image[..., 0], PROJECTION[0, 0], PROJECTION[0, 2]) < 0.5
    assert worst_bend(image[..., 0].T, PROJECTION[1, 1], PROJECTION[1, 2]) < 0.5


@pytest.mark.parametrize("model", list(LENSES))
def test_as_opencv_does_it(model: str) -> None:
    bent = camera(model)
    lens = bent.distortion
    assert lens is not None
    rng = np.random.default_rng(0)
    raw = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 3)
    fisheye = model == "equidistant"
    make = cv2.fisheye.initUndistortRectifyMap if fisheye else cv2.initUndistortRectifyMap
    size, kind = (WIDTH, HEIGHT), cv2.CV_32FC1
    maps = make(K, lens.coefficients, R, PROJECTION[:, :3], size, kind)
    expected = cv2.remap(raw, *maps, cv2.INTER_LINEAR)
    image, _ = Rectifier()(raw, bent)
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_what_is_rectified_stays_as_it_is() -> None:
    flat = replace(camera("plumb_bob"), distortion=None)
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    same, same_camera = Rectifier()(image, flat)
    assert same is image
    assert same_camera is flat


def test_maps_are_made_once_for_each_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    convert = cv2.convertMaps
    monkeypatch.setattr(
        "kd3d_core.extract.calibration.cv2.convertMaps",
        lambda *args: made.append(args) or convert(*args),
    )
    rectify, raw = Rectifier(), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bent = camera("equidistant")
    pose = np.eye(4)
    pose[0, 3] = 1
    for each in (bent, replace(bent, lidar_from_camera=pose), bent):
        _, straight = rectify(raw, each)
        np.testing.assert_array_equal(straight.lidar_from_camera, each.lidar_from_camera)
    assert len(made) == 1
    for coefficient in range(10):
        assert bent.distortion is not None
        lens = replace(bent.distortion, coefficients=[0.001 * coefficient, 0, 0, 0])
        rectify(raw, replace(bent, distortion=lens))
    assert len(made) == 11
    assert len(rectify._maps) <= 4
