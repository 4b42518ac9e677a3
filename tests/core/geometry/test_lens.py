"""Distortion against OpenCV, which has its own implementation of every model."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.lens import Distortion

RAW = np.array([[500.0, 0, 330.5], [0, 510.0, 245.2], [0, 0, 1]])
RECTIFIED = np.array([[430.0, 0, 318.0], [0, 432.0, 236.0], [0, 0, 1]])
SIZE = (640, 480)
TURN = Rotation.from_rotvec([0.02, -0.03, 0.01]).as_matrix()

PINHOLE = {
    "none": ("plumb_bob", [0, 0, 0, 0]),
    "four": ("plumb_bob", [-0.3, 0.1, 0.001, -0.002]),
    "five": ("plumb_bob", [-0.36, 0.19, 0.0012, -0.0021, -0.06]),
    "rational": ("rational_polynomial", [0.5, -0.2, 0.001, -0.0007, 0.02, 0.8, -0.1, 0.03]),
}
FISHEYE = [-0.02, 0.01, -0.004, 0.0008]


def rays() -> np.ndarray:
    """`(480, 640, 3)`: the ray of each pixel of the rectified image."""
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    pixels = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float64)
    return pixels @ np.linalg.inv(RECTIFIED).T


@pytest.mark.parametrize(("model", "coefficients"), PINHOLE.values(), ids=PINHOLE)
def test_pinhole_models_give_opencvs_rectification_map(
    model: str, coefficients: list[float]
) -> None:
    distortion = Distortion(model, np.array(coefficients), RAW, TURN)
    pixels = distortion.raw_pixels(rays())
    map_x, map_y = cv2.initUndistortRectifyMap(
        RAW, np.array(coefficients), TURN, RECTIFIED, SIZE, cv2.CV_32FC1
    )
    np.testing.assert_allclose(pixels[..., 0], map_x, atol=1e-3)
    np.testing.assert_allclose(pixels[..., 1], map_y, atol=1e-3)


@pytest.mark.parametrize(("model", "coefficients"), PINHOLE.values(), ids=PINHOLE)
def test_pinhole_models_give_opencvs_projection(model: str, coefficients: list[float]) -> None:
    points = np.random.default_rng(0).uniform((-2, -2, 3), (2, 2, 9), (100, 3))
    distortion = Distortion(model, np.array(coefficients), RAW, TURN)
    reference, _ = cv2.projectPoints(
        points @ TURN, np.zeros(3), np.zeros(3), RAW, np.array(coefficients, np.float64)
    )
    np.testing.assert_allclose(distortion.raw_pixels(points), reference[:, 0], atol=1e-9)


@pytest.mark.parametrize("model", ["equidistant", "fisheye"])
def test_fisheye_gives_opencvs_rectification_map(model: str) -> None:
    distortion = Distortion(model, np.array(FISHEYE), RAW, TURN)
    pixels = distortion.raw_pixels(rays())
    map_x, map_y = cv2.fisheye.initUndistortRectifyMap(
        RAW, np.array(FISHEYE), TURN, RECTIFIED, SIZE, cv2.CV_32FC1
    )
    np.testing.assert_allclose(pixels[..., 0], map_x, atol=1e-3)
    np.testing.assert_allclose(pixels[..., 1], map_y, atol=1e-3)


def test_fisheye_gives_opencvs_projection_far_off_the_axis() -> None:
    points = np.random.default_rng(0).uniform((-9, -9, 1), (9, 9, 3), (200, 3))
    distortion = Distortion("equidistant", np.array(FISHEYE), RAW, np.eye(3))
    reference, _ = cv2.fisheye.projectPoints(
        points[:, None], np.zeros(3), np.zeros(3), RAW, np.array(FISHEYE)
    )
    np.testing.assert_allclose(distortion.raw_pixels(points), reference[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("model", "coefficients"), [("plumb_bob", [-0.3, 0.1, 0, 0]), ("equidistant", FISHEYE)]
)
def test_the_optical_axis_falls_on_the_principal_point(
    model: str, coefficients: list[float]
) -> None:
    distortion = Distortion(model, np.array(coefficients), RAW, np.eye(3))
    with np.errstate(all="raise"):
        pixel = distortion.raw_pixels(np.array([0.0, 0, 5]))
    np.testing.assert_allclose(pixel, RAW[:2, 2])


def test_distortion_is_checked_by_itself() -> None:
    with pytest.raises(CalibrationError, match="K has 4 numbers"):
        Distortion("plumb_bob", np.zeros(5), np.eye(2), np.eye(3))
