"""PinholeCamera: readers, projection and its inverse, scaled and cut images."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.lens import Distortion
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera

WIDTH, HEIGHT = 1242, 375
PROJECTION = np.array(
    [[721.5377, 0, 609.5593, 44.85728], [0, 721.5377, 172.854, 0.2163791], [0, 0, 1, 0.002745884]]
)
POSE = virtual_lidar_from_camera(1.65)


def tilted_camera() -> PinholeCamera:
    """A camera that looks a little aside and down, as a robot's does."""
    pose = POSE.copy()
    pose[:3, :3] = Rotation.from_euler("zyx", [0.2, 0.1, -0.05]).as_matrix() @ pose[:3, :3]
    pose[:3, 3] = 0.3, -0.1, 0.2
    return PinholeCamera(PROJECTION, WIDTH, HEIGHT, pose)


def pixels_and_depths(count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (count, 2))
    return pixels, rng.uniform(1, 80, count)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda pose: pose * [1.01, 1, 1, 1], "no rotation"),
        (lambda pose: pose * [-1, 1, 1, 1], "no rotation"),
        (lambda pose: pose + np.eye(4)[[3]].T * [0.1, 0, 0, 0], "last row"),
        (lambda pose: pose * np.nan, "not finite"),
        (lambda pose: pose[:3], "12 numbers, 16 are needed"),
        (lambda pose: pose + np.eye(4)[[1]].T * [0, 0, 0, 1500], "1500, .*at most 1000 m"),
        (lambda pose: pose + np.eye(4)[[0]].T * [0, 0, 0, 1e308], r"1e\+308, .*at most 1000 m"),
    ],
)
def test_bad_extrinsics_say_why(spoil: Any, reason: str) -> None:
    with pytest.raises(CalibrationError, match=f"lidar_from_camera.*{reason}"):
        PinholeCamera(PROJECTION, WIDTH, HEIGHT, spoil(POSE))


def with_value(place: tuple[int, int], value: float) -> np.ndarray:
    projection = PROJECTION.copy()
    projection[place] = value
    return projection


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ((0, 1), 20.0, r"P\[0, 1\] is 20 "),
        ((0, 1), 1e308, r"P\[0, 1\] is 1e\+308 "),
        ((1, 0), -20.0, r"P\[1, 0\] is -20:"),
        ((0, 3), -721.5 * 120, "-119.996, .* m, .*baseline in metres"),  # a baseline in millimetres
        ((0, 3), 1e308, "last column"),
        ((1, 3), 1e4, "last column"),
        ((2, 3), 1.5, "last column"),
    ],
)
def test_projections_that_no_camera_has(place: tuple[int, int], value: float, reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason) as refused:
        PinholeCamera(with_value(place, value), WIDTH, HEIGHT, POSE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "value"),
    [((0, 1), 2.0), ((1, 0), -2.0), ((0, 3), -721.5377), ((0, 3), -379.8), ((1, 3), 400.0)],
)
def test_stereo_cameras_and_a_little_skew_are_possible(
    place: tuple[int, int], value: float
) -> None:
    camera = PinholeCamera(with_value(place, value), WIDTH, HEIGHT, POSE)
    camera.check_view()
    camera.resized(0.01).cropped(-3000, 5000, 10, 10)  # changes the last column, moves no camera


LENSES = {
    "kitti": ("plumb_bob", [-0.3691, 0.1968, 0.00135, 0.00057, -0.0677], 721.5),
    "wide": ("plumb_bob", [-0.36, 0.19, 0.0012, -0.0021, -0.06], 300.0),
    "pincushion": ("plumb_bob", [0.5, 0.2, 0, 0, 0], 721.5),
    "fisheye": ("equidistant", [-0.02, 0.01, -0.004, 0.0008], 250.0),
    "rational": ("rational_polynomial", [0.5, -0.2, 0.001, -0.0007, 0.02, 0.8, -0.1, 0.03], 500.0),
}


def with_lens(model: str, coefficients: list[float], focal: float) -> PinholeCamera:
    intrinsics = np.array([[focal, 0, 620], [0, focal, 190], [0, 0, 1]])
    lens = Distortion(model, np.array(coefficients), intrinsics, np.eye(3))
    projection = np.column_stack([intrinsics, np.zeros(3)])
    return PinholeCamera(projection, WIDTH, HEIGHT, POSE, lens)


@pytest.mark.parametrize(("model", "coefficients", "focal"), LENSES.values(), ids=LENSES)
def test_lenses_that_bend_a_lot_are_possible(
    model: str, coefficients: list[float], focal: float
) -> None:
    with_lens(model, coefficients, focal).check_view()


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", [1e30, 0, 0, 0, 0]),
        ("plumb_bob", [-1e30, 0, 0, 0, 0]),
        ("plumb_bob", [0, 0, 1e308, 1e308, 0]),
        ("plumb_bob", [-10.0, 0, 0, 0, 0]),  # the image folds over near its middle
        ("rational_polynomial", [0, 0, 0, 0, 0, 1e30, 0, 0]),  # its middle everywhere
        ("equidistant", [1e30, 0, 0, 0]),
    ],
)
def test_lenses_that_leave_no_picture_are_refused(model: str, coefficients: list[float]) -> None:
    with pytest.raises(CalibrationError, match=f"distortion {model} .*rectified image") as refused:
        with_lens(model, coefficients, 721.5).check_view()
    assert "\n" not in str(refused.value)


def test_a_camera_keeps_its_own_copy() -> None:
    projection, pose = PROJECTION.copy(), POSE.copy()
    camera = PinholeCamera(projection, WIDTH, HEIGHT, pose)
    projection[:], pose[:] = 0, 0
    np.testing.assert_array_equal(camera.projection, PROJECTION)
    np.testing.assert_array_equal(camera.lidar_from_camera, POSE)
    with pytest.raises(ValueError, match="read-only"):
        camera.projection[0, 0] = 1


def test_cameras_can_be_compared_and_kept_in_sets() -> None:
    one, two = tilted_camera(), tilted_camera()
    assert (one == two) is False
    assert len({one, two, one}) == 2


# Projection


def test_projection_is_the_plain_formula_and_opencvs() -> None:
    camera = tilted_camera()
    pixels, depths = pixels_and_depths()
    points = camera.unproject(pixels, depths)
    in_camera = np.column_stack([points, np.ones(len(points))]) @ camera.camera_from_lidar.T
    homogeneous = in_camera @ camera.projection.T
    projected, depth = camera.project(points)
    np.testing.assert_allclose(projected, homogeneous[:, :2] / homogeneous[:, 2:], atol=1e-9)
    np.testing.assert_allclose(depth, homogeneous[:, 2])
    # OpenCV knows no fourth column: move the points by what it stands for.
    shift = np.linalg.inv(camera.projection[:, :3]) @ camera.projection[:, 3]
    reference, _ = cv2.projectPoints(
        in_camera[:, :3] + shift, np.zeros(3), np.zeros(3), camera.projection[:, :3], None
    )
    np.testing.assert_allclose(projected, reference[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("convert", "pixel_error", "metre_error"),
    [
        (lambda array: array, 1e-9, 1e-9),
        (lambda array: array.astype(np.float32), 5e-3, 1e-4),
        (torch.from_numpy, 1e-9, 1e-9),
        (lambda array: torch.from_numpy(array).float(), 5e-3, 1e-4),
    ],
    ids=["numpy64", "numpy32", "torch64", "torch32"],
)
def test_unprojected_pixels_come_back(convert: Any, pixel_error: float, metre_error: float) -> None:
    camera = tilted_camera()
    pixels, depths = map(convert, pixels_and_depths())
    points = camera.unproject(pixels, depths)
    assert type(points) is type(pixels)
    assert points.dtype == pixels.dtype
    again, depth = camera.project(points)
    assert again.dtype == pixels.dtype
    assert abs(again - pixels).max() < pixel_error
    assert abs(depth - depths).max() < metre_error
    exact = camera.unproject(*pixels_and_depths())
    np.testing.assert_allclose(points, exact, atol=metre_error)


def test_lidar_points_project_back_into_their_own_pixels(tracking: KittiDataset) -> None:
    frame = tracking[0]
    camera = frame.camera()
    points = torch.from_numpy(frame.points_in_view()[:, :3])
    pixels, depth = camera.project(points)
    again = camera.unproject(pixels, depth)
    assert (again - points).abs().max() < 1e-3
    pixels_again, _ = camera.project(again)
    assert (pixels_again - pixels).abs().max() < 0.5


def test_points_behind_have_no_positive_depth() -> None:
    _, depth = tilted_camera().project(np.array([[-5.0, 0, 0], [5.0, 0, 0]]))
    assert depth[0] < 0 < depth[1]


# Scaled and cut images


def blob_image(camera: PinholeCamera, pixels: np.ndarray) -> np.ndarray:
    """An image with a soft dot, three pixels wide, at each place."""
    rows, columns = np.mgrid[: camera.height, : camera.width]
    image = np.zeros((camera.height, camera.width), np.float32)
    for u, v in pixels:
        image += np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 3**2))
    return image


def centroid(image: np.ndarray, near: np.ndarray, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image * ((columns - near[0]) ** 2 + (rows - near[1]) ** 2 < radius**2)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("scale", [0.5, 2.0, 0.25, 1.5])
def test_a_resized_image_fits_its_camera(scale: float) -> None:
    camera = replace(tilted_camera(), width=160, height=96)
    dots = np.array([[30.0, 30], [110.3, 50.7]])
    points = camera.unproject(dots, np.array([10.0, 20.0]))
    resized = camera.resized(scale)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (resized.width, resized.height)
    image = cv2.resize(blob_image(camera, dots), size, interpolation=how)
    projected, depth = resized.project(points)
    np.testing.assert_allclose(depth, [10, 20])
    for pixel in projected:
        np.testing.assert_allclose(centroid(image, pixel, 12 * scale), pixel, atol=0.02 * scale)


def test_a_cut_image_fits_its_camera() -> None:
    camera = replace(tilted_camera(), width=160, height=96)
    dot = np.array([[110.3, 50.7]])
    point = camera.unproject(dot, np.array([20.0]))
    window = camera.cropped(40, 25, 90, 60)
    assert (window.width, window.height) == (90, 60)
    image = blob_image(camera, dot)[25:85, 40:130]
    projected, _ = window.project(point)
    np.testing.assert_allclose(projected[0], dot[0] - (40, 25), atol=1e-9)
    np.testing.assert_allclose(centroid(image, projected[0], 12), projected[0], atol=1e-3)


@given(st.floats(0.1, 4), st.integers(-50, 300), st.integers(-50, 100))
def test_windows_keep_distances(scale: float, left: int, top: int) -> None:
    camera = tilted_camera()
    window = camera.resized(scale).cropped(left, top, 100, 50)
    points = camera.unproject(*pixels_and_depths(20))
    pixels, depth = window.project(points)
    np.testing.assert_allclose(depth, camera.project(points)[1])
    np.testing.assert_allclose(window.unproject(pixels, depth), points, atol=1e-6)
