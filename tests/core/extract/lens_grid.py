"""A grid of straight lines as lenses show it, and how straight they are in a picture."""

import cv2
import numpy as np

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


def assert_straight(image: np.ndarray) -> None:
    """To half a pixel, in a rectified picture `(H, W, 3)` of the grid."""
    assert worst_bend(image[..., 0], PROJECTION[0, 0], PROJECTION[0, 2]) < 0.5
    assert worst_bend(image[..., 0].T, PROJECTION[1, 1], PROJECTION[1, 2]) < 0.5
