"""Where a camera is in the LiDAR's frame, from a file.

The format is told from a file's contents:

- KITTI: `Tr_velo_to_cam` or `Tr` of a calibration (see `data.kitti_calib`), or a raw recording's
  `calib_velo_to_cam.txt` with `calib_cam_to_cam.txt` beside it;
- Autoware's calibration (OpenCV's YAML with `CameraExtrinsicMat`);
- YAML with `lidar_from_camera` or `camera_from_lidar`: a 4x4 or 3x4 matrix, as rows, in a row or as
  OpenCV writes it, or `translation` (x, y, z in metres) and `rotation` (quaternion x, y, z, w):

      camera_from_lidar:
        translation: [0.0, -0.08, -0.27]
        rotation: [0.5, -0.5, 0.5, -0.5]

Cameras are meant in their optical frame: x right, y down, z forward.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.data.camera_file import load_calibration_yaml, numbers_of
from kd3d_core.data.kitti_calib import (
    entry,
    lidar_from_camera,
    parse_kitti_calib,
    read_calibration_text,
    read_kitti_calib,
)
from kd3d_core.errors import CalibrationError, listed
from kd3d_core.geometry.checks import check_rotation
from kd3d_core.geometry.pose import matrix_from_pose

# Names of matrices, and whether they lead into the camera's frame.
_NAMES = {"lidar_from_camera": False, "camera_from_lidar": True, "CameraExtrinsicMat": False}


def read_extrinsics(path: Path | str) -> np.ndarray:
    """The 4x4 `lidar_from_camera` of a file.

    Raises:
        CalibrationError: names the file and what is wrong in it, or which formats are known.
    """
    path = Path(path)
    try:
        matrix = _parse(read_calibration_text(path), path)
        check_rotation("the rotation", matrix[:3, :3])
        return matrix
    except CalibrationError as error:
        text = str(error)
        raise CalibrationError(text if text.startswith(f"{path}") else f"{path}: {text}") from None


def _parse(text: str, path: Path) -> np.ndarray:
    kitti = parse_kitti_calib(text)
    if "Tr_velo_to_cam" in kitti or {"Tr", "P0"} <= kitti.keys():
        return lidar_from_camera(kitti)
    if {"R", "T"} <= kitti.keys() and path.name != "calib_imu_to_velo.txt":
        return _parse_kitti_raw(kitti, path.with_name("calib_cam_to_cam.txt"))
    values = load_calibration_yaml(text)
    values = values if isinstance(values, dict) else {}
    found = [name for name in _NAMES if name in values]
    if len(found) != 1:
        raise CalibrationError(
            f"it must have one of {listed(_NAMES)}, or KITTI's Tr_velo_to_cam, and has "
            f"{listed(found or list(values) or list(kitti))}"
            + ("; T_cam_imu leads to no LiDAR" if "T_cam_imu" in text else "")
        )
    (name,) = found
    matrix = _pose(name, values[name])
    return np.linalg.inv(matrix) if _NAMES[name] else matrix


def _parse_kitti_raw(entries: dict[str, list[str]], cameras: Path) -> np.ndarray:
    """From the velodyne to camera 0, which `R_rect_00` of another file rectifies."""
    if not cameras.is_file():
        raise CalibrationError(f"{cameras.name}, which rectifies the camera, must lie beside it")
    camera_from_lidar, rectified = np.eye(4), np.eye(4)
    camera_from_lidar[:3, :3] = entry(entries, "R", (3, 3))
    camera_from_lidar[:3, 3] = entry(entries, "T", (3,))
    rectified[:3, :3] = entry(read_kitti_calib(cameras), "R_rect_00", (3, 3))
    check_rotation("R", camera_from_lidar[:3, :3])
    check_rotation("R_rect_00", rectified[:3, :3])
    return np.linalg.inv(rectified @ camera_from_lidar)


def _pose(name: str, value: Any) -> np.ndarray:
    if isinstance(value, dict) and value.keys() == {"translation", "rotation"}:
        move = numbers_of(f"{name}.translation", value["translation"], (3,))
        turn = numbers_of(f"{name}.rotation", value["rotation"], (4,))
        return matrix_from_pose(move.tolist(), turn.tolist())
    numbers = numbers_of(name, value, None)
    if numbers.size not in (12, 16):
        raise CalibrationError(
            f"{name} has {numbers.size} numbers: give a 4x4 or 3x4 matrix, or translation "
            "[x, y, z] and rotation [x, y, z, w]"
        )
    matrix = np.eye(4)
    matrix[: numbers.size // 4] = numbers.reshape(-1, 4)
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise CalibrationError(f"{name}'s last row is {matrix[3].tolist()}, not [0, 0, 0, 1]")
    check_rotation(name, matrix[:3, :3])
    return matrix
