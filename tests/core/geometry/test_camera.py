"""PinholeCamera: readers, projection and its inverse, scaled and cut images."""

from dataclasses import dataclass, field, replace
from pathlib import Path
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
from kd3d_core.geometry.camera import (
    KITTI_LIDAR_HEIGHT,
    Distortion,
    PinholeCamera,
    read_kitti_calib,
    virtual_lidar_from_camera,
)

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


@dataclass
class Info:
    """A `sensor_msgs/CameraInfo`, with lists as rosbags and arrays as rclpy has them."""

    height: int = HEIGHT
    width: int = WIDTH
    distortion_model: str = "plumb_bob"
    d: Any = field(default_factory=lambda: [0.0] * 5)
    k: Any = field(default_factory=lambda: PROJECTION[:, :3].reshape(9).tolist())
    r: Any = field(default_factory=lambda: np.eye(3).reshape(9).tolist())
    p: Any = field(default_factory=lambda: PROJECTION.reshape(12))


# Reading


def test_all_frames_of_the_samples_have_a_camera(
    tracking: KittiDataset, kitti_object: KittiDataset
) -> None:
    for dataset in (tracking, kitti_object):
        for frame in dataset:
            camera = frame.camera()
            assert (camera.height, camera.width) == frame.image().shape[:2]
            assert 700 < camera.focal_px < 730
            # The velodyne sits behind and above the camera, and looks the same way.
            x, y, z = camera.lidar_from_camera[:3, 3]
            assert 0.2 < x < 0.4
            assert abs(y) < 0.05
            assert -0.15 < z < 0
            forward = camera.lidar_from_camera[:3, :3] @ [0, 0, 1]
            assert forward[0] > 0.999


def test_every_recording_day_is_read(raw_calib_files: list[Path]) -> None:
    assert len(raw_calib_files) == 5
    focal = set()
    for path in raw_calib_files:
        matrices = read_kitti_calib(path)
        for camera_number in range(4):
            camera = PinholeCamera.from_kitti(path, WIDTH, HEIGHT, camera=camera_number)
            np.testing.assert_array_equal(
                camera.projection, matrices[f"P{camera_number}"].reshape(3, 4)
            )
        focal.add(camera.focal_px)
        rectified, velo_to_cam = np.eye(4), np.eye(4)
        rectified[:3, :3] = matrices["R0_rect"].reshape(3, 3)
        velo_to_cam[:3] = matrices["Tr_velo_to_cam"].reshape(3, 4)
        np.testing.assert_allclose(camera.camera_from_lidar, rectified @ velo_to_cam, atol=1e-9)
    assert len(focal) == 5


def test_names_of_the_tracking_layout_are_known(tmp_path: Path, tracking: KittiDataset) -> None:
    path = tracking[0].path("calib")
    text = path.read_text()
    for old, new in (("R0_rect:", "R_rect"), ("Tr_velo_to_cam:", "Tr_velo_cam")):
        text = text.replace(old, new)
    (tmp_path / "calib.txt").write_text(text)
    camera = PinholeCamera.from_kitti(tmp_path / "calib.txt", WIDTH, HEIGHT)
    expected = PinholeCamera.from_kitti(path, WIDTH, HEIGHT)
    np.testing.assert_array_equal(camera.image_from_lidar, expected.image_from_lidar)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("P2:", "P9:", "no line P2"),
        ("R0_rect: 1", "R0_rect: 1 1", "R0_rect has 10 numbers, 9 are needed"),
        ("R0_rect: 1 0 0 0 1", "R0_rect: 1 0 0 0 0", "no rotation"),
        ("R0_rect: 1", "R0_rect: 1.01", "rotation"),
        ("R0_rect: 1", "R0_rect: -1", "rotation"),
        ("R0_rect: 1", "R0_rect: x", r"calib\.txt:2: R0_rect"),
        ("P2: 700", "P2: 0", "focal"),
        ("P2: 700", "P2: nan", "P2 has values that are not finite"),
        ("Tr_velo_to_cam: 0", "Tr_velo_to_cam: inf", "Tr_velo_to_cam .* not finite"),
    ],
)
def test_bad_calibration_files_are_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = (
        "P2: 700 0 600 45 0 700 180 0.2 0 0 1 0.003\n"
        "R0_rect: 1 0 0 0 1 0 0 0 1\n"
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
    )
    path = tmp_path / "calib.txt"
    path.write_text(text)
    PinholeCamera.from_kitti(path, 64, 32)
    path.write_text(text.replace(old, new))
    with pytest.raises(CalibrationError, match=reason) as error:
        PinholeCamera.from_kitti(path, 64, 32)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_calibration_files(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="absent"):
        PinholeCamera.from_kitti(tmp_path / "absent.txt", 64, 32)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="binary"):
        PinholeCamera.from_kitti(tmp_path / "binary.txt", 64, 32)


def test_camera_info_of_rectified_images_uses_p_alone() -> None:
    # As kitti2bag writes it: the raw K and D beside rectified images.
    info = Info(d=[-0.37, 0.2, 0, 0, -0.07], k=[950.0, 0, 690, 0, 950, 240, 0, 0, 1])
    camera = PinholeCamera.from_camera_info(info, POSE)
    np.testing.assert_array_equal(camera.projection, PROJECTION)
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    assert camera.distortion is None


def test_camera_info_of_raw_images_keeps_the_distortion() -> None:
    turn = Rotation.from_rotvec([0.01, -0.02, 0.005]).as_matrix()
    info = Info(d=[-0.37, 0.2, 0.001, 0.002, -0.07], r=turn.reshape(9))
    camera = PinholeCamera.from_camera_info(info, POSE, rectified=False)
    assert camera.distortion is not None
    assert camera.distortion.model == "plumb_bob"
    np.testing.assert_array_equal(camera.distortion.coefficients, info.d)
    np.testing.assert_array_equal(camera.distortion.rectified_from_raw, turn)
    np.testing.assert_array_equal(camera.distortion.intrinsics.reshape(9), info.k)
    assert PinholeCamera.from_camera_info(Info(), POSE, rectified=False).distortion is None


def test_raw_images_without_distortion_are_rectified_where_k_is_not_p() -> None:
    info = Info(d=[], distortion_model="", k=[600, 0, 310, 0, 600, 240, 0, 0, 1],
                p=[500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0])  # fmt: skip
    camera = PinholeCamera.from_camera_info(info, POSE, rectified=False)
    assert camera.distortion is not None
    ray = np.array([0.1, -0.05, 1.0])
    np.testing.assert_allclose(camera.distortion.raw_pixels(ray), (370, 210))


@pytest.mark.parametrize("p", [[0.0] * 12, []])
def test_camera_info_without_p_falls_back_to_k(p: list[float]) -> None:
    camera = PinholeCamera.from_camera_info(Info(p=p), POSE)
    np.testing.assert_array_equal(camera.projection[:, :3].reshape(9), Info().k)
    np.testing.assert_array_equal(camera.projection[:, 3], 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": [0.0] * 12, "k": [0.0] * 9}, "focal lengths are 0 and 0"),
        ({"p": [np.nan] * 12}, "P has values that are not finite"),
        ({"p": [np.inf, *PROJECTION.reshape(12)[1:]]}, "P has values that are not finite"),
        ({"p": [-700.0, *PROJECTION.reshape(12)[1:]]}, "focal"),
        ({"p": [0.0] * 12, "k": [np.nan] * 9}, "K has values that are not finite"),
        ({"p": [0.0] * 12, "k": [1.0] * 8}, "K has 8 numbers"),
        ({"p": [700, 0, 600, 0, 0, 700, 180, 0, 0, 0, 2, 0]}, "last row"),
        ({"width": 0}, "0 x 375 is not positive"),
        ({"height": -3}, "not positive"),
    ],
)
def test_bad_camera_infos_say_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        PinholeCamera.from_camera_info(Info(**change), POSE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"d": [0.1] * 3}, "D has 3 coefficients, plumb_bob has 4 or 5"),
        ({"d": [0.1] * 5, "distortion_model": "rational_polynomial"}, "has 8"),
        ({"d": [0.1] * 5, "distortion_model": "equidistant"}, "has 4"),
        ({"d": [0.1] * 5, "distortion_model": "kannala"}, "'kannala' is unknown"),
        ({"d": [np.nan] * 5}, "D has values that are not finite"),
        ({"d": [0.1] * 5, "r": [2.0, 0, 0, 0, 1, 0, 0, 0, 1]}, "R is no rotation"),
        ({"d": [0.1] * 5, "r": [-1.0, 0, 0, 0, 1, 0, 0, 0, 1]}, "R is no rotation"),
        ({"d": [0.1] * 5, "k": [0.0] * 9}, "K's focal lengths"),
    ],
)
def test_bad_distortion_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        PinholeCamera.from_camera_info(Info(**change), POSE, rectified=False)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda pose: pose * [1.01, 1, 1, 1], "no rotation"),
        (lambda pose: pose * [-1, 1, 1, 1], "no rotation"),
        (lambda pose: pose + np.eye(4)[[3]].T * [0.1, 0, 0, 0], "last row"),
        (lambda pose: pose * np.nan, "not finite"),
        (lambda pose: pose[:3], "12 numbers, 16 are needed"),
    ],
)
def test_bad_extrinsics_say_why(spoil: Any, reason: str) -> None:
    with pytest.raises(CalibrationError, match=f"lidar_from_camera.*{reason}"):
        PinholeCamera(PROJECTION, WIDTH, HEIGHT, spoil(POSE))


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


# The virtual LiDAR frame


@given(st.floats(0.1, 5))
def test_the_ground_lies_as_low_in_the_virtual_frame_as_in_kittis(camera_height: float) -> None:
    camera = PinholeCamera(PROJECTION, WIDTH, HEIGHT, virtual_lidar_from_camera(camera_height))
    on_ground = camera.lidar_from_camera @ [0, camera_height, 10, 1]  # y is down
    np.testing.assert_allclose(on_ground, [10, 0, -KITTI_LIDAR_HEIGHT, 1], atol=1e-9)
    to_the_right = camera.lidar_from_camera @ [2, 0, 10, 1]
    assert to_the_right[1] == pytest.approx(-2)  # y is left


@pytest.mark.parametrize("height", [0, -1, np.nan, np.inf, 1650])
def test_impossible_camera_heights(height: float) -> None:
    with pytest.raises(CalibrationError, match="camera_height"):
        virtual_lidar_from_camera(height)


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


def test_distortion_is_checked_by_itself() -> None:
    with pytest.raises(CalibrationError, match="K has 4 numbers"):
        Distortion("plumb_bob", np.zeros(5), np.eye(2), np.eye(3))
