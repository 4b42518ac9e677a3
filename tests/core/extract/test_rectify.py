"""Rectified images, against OpenCV's own lens models and a grid of straight lines."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from lens_grid import HEIGHT, LENSES, PROJECTION, WIDTH, K, R, assert_straight, camera, raw_grid

from kd3d_core.extract.calibration import Rectifier


@pytest.mark.parametrize("model", ["equidistant", "plumb_bob"])
def test_lines_are_straight_to_half_a_pixel(model: str) -> None:
    bent = camera(model)
    assert bent.distortion is not None
    image, straight = Rectifier()(raw_grid(bent.distortion), bent)
    assert straight.distortion is None
    np.testing.assert_array_equal(straight.projection, PROJECTION)
    assert_straight(image)


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
