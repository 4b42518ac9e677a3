"""Extrinsics from files of every known format, and what is said of others."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kd3d_core.data.extrinsics_file import read_extrinsics
from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.pose import matrix_from_pose, pose_from_matrix

CAMERA_FROM_LIDAR = matrix_from_pose([0.1, -0.08, -0.27], [0.5, -0.49, 0.5, -0.51])
LIDAR_FROM_CAMERA = np.linalg.inv(CAMERA_FROM_LIDAR)
RECTIFICATION = matrix_from_pose([0, 0, 0], [0.01, 0.002, -0.003, 1])[:3, :3]


def row(matrix: np.ndarray) -> str:
    return " ".join(map(repr, matrix.reshape(-1).tolist()))


def opencv_yaml(path: Path, name: str, matrix: np.ndarray) -> str:
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write(name, matrix)
    storage.release()
    return path.read_text()


def own_yaml(name: str, matrix: np.ndarray) -> str:
    translation, rotation = pose_from_matrix(matrix)
    return f"{name}:\n  translation: {translation}\n  rotation: {rotation}\n"


def check(path: Path, text: str, expected: np.ndarray = LIDAR_FROM_CAMERA) -> None:
    path.write_text(text)
    np.testing.assert_allclose(read_extrinsics(path), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "matrix"),
    [("camera_from_lidar", CAMERA_FROM_LIDAR), ("lidar_from_camera", LIDAR_FROM_CAMERA)],
)
def test_own_yaml(tmp_path: Path, name: str, matrix: np.ndarray) -> None:
    path = tmp_path / "extrinsics.yaml"
    check(path, own_yaml(name, matrix))
    check(path, f"{name}: {matrix.tolist()}")
    check(path, f"{name}: {matrix[:3].tolist()}")
    check(path, f"{name}: [{row(matrix).replace(' ', ', ')}]")
    check(path, opencv_yaml(tmp_path / "opencv.yaml", name, matrix))


def test_autoware(tmp_path: Path) -> None:
    text = opencv_yaml(tmp_path / "opencv.yaml", "CameraExtrinsicMat", LIDAR_FROM_CAMERA)
    check(tmp_path / "autoware.yaml", text + "CameraMat: [1, 2]\n")


def test_kitti(tmp_path: Path) -> None:
    rectified = np.eye(4)
    rectified[:3, :3] = RECTIFICATION
    expected = np.linalg.inv(rectified @ CAMERA_FROM_LIDAR)
    tr = row(CAMERA_FROM_LIDAR[:3])
    check(tmp_path / "1.txt", f"R0_rect: {row(RECTIFICATION)}\nTr_velo_to_cam: {tr}\n", expected)
    check(tmp_path / "2.txt", f"P0: {row(np.eye(3, 4))}\nTr: {tr}\n")
    raw = f"calib_time: 15-Mar-2012\nR: {row(CAMERA_FROM_LIDAR[:3, :3])}\n"
    raw += f"T: {row(CAMERA_FROM_LIDAR[:3, 3])}\n"
    with pytest.raises(CalibrationError, match=r"calib_cam_to_cam\.txt, which rectifies"):
        check(tmp_path / "calib_velo_to_cam.txt", raw)
    (tmp_path / "calib_cam_to_cam.txt").write_text(f"R_rect_00: {row(RECTIFICATION)}\n")
    check(tmp_path / "calib_velo_to_cam.txt", raw, expected)
    with pytest.raises(CalibrationError, match=r"calib_velo_to_cam\.txt: R is no rotation"):
        check(tmp_path / "calib_velo_to_cam.txt", raw.replace("R: ", "R: 9"))
    (tmp_path / "calib_cam_to_cam.txt").write_text(f"R_rect_00: {row(-RECTIFICATION)}\n")
    with pytest.raises(CalibrationError, match="R_rect_00 is no rotation"):
        check(tmp_path / "calib_velo_to_cam.txt", raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have one of lidar_from_camera, .* and has none"),
        ("camera_matrix: [1]", r"and has camera_matrix$"),
        ("cam0:\n  T_cam_imu: [1]", "T_cam_imu leads to no LiDAR"),
        (own_yaml("camera_from_lidar", CAMERA_FROM_LIDAR) * 2, "stands twice|twice"),
        ("camera_from_lidar: [1, 2]", "has 2 numbers: give a 4x4"),
        ("camera_from_lidar: 5 apples", "must be a row of numbers"),
        (f"camera_from_lidar: {(2 * CAMERA_FROM_LIDAR[:3]).tolist()}", "is no rotation"),
        (f"camera_from_lidar: {np.ones((4, 4)).tolist()}", "last row is"),
        ("camera_from_lidar: {translation: [1, 2, 3], rotation: [0, 0, 0, 0]}", "norm 0"),
        ("camera_from_lidar: {translation: [1, 2], rotation: [0, 0, 0, 1]}", "has 2 numbers"),
        (f"Tr_velo_to_cam: {row(np.ones(12))}\nR0_rect: {row(np.eye(3))}", "is no rotation"),
        (
            own_yaml("camera_from_lidar", CAMERA_FROM_LIDAR)
            + own_yaml("lidar_from_camera", LIDAR_FROM_CAMERA),
            "one of .* and has lidar_from_camera, camera_from_lidar",
        ),
    ],
)
def test_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "extrinsics.yaml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=message) as error:
        read_extrinsics(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nothing\.yaml"):
        read_extrinsics(tmp_path / "nothing.yaml")
