"""Camera calibrations on disk, in the formats that calibration tools write.

The format is told from a file's contents:

- ROS's camera_calibration: YAML (`ost.yaml`) and INI (`ost.ini`, `ost.txt`), and a CameraInfo as
  `ros2 topic echo` prints it;
- OpenCV's FileStorage YAML with a camera matrix and distortion coefficients;
- Kalibr's camera chain (YAML), its first camera;
- KITTI: see `data.kitti_calib`.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.config import parse_yaml
from kd3d_core.data.kitti_calib import (
    entry,
    lidar_from_camera,
    parse_kitti_calib,
    raw_camera_info,
    read_calibration_text,
)
from kd3d_core.errors import CalibrationError, ConfigError
from kd3d_core.geometry.checks import finite
from kd3d_core.messages.types import CameraInfo

KNOWN_FORMATS = (
    "ROS camera_calibration (YAML, ost.ini), CameraInfo as YAML, OpenCV YAML, Kalibr camchain, "
    "KITTI (object, tracking, odometry, raw calib_cam_to_cam.txt)"
)
_LOG = logging.getLogger(__name__)
_KALIBR_LENSES = {"radtan": "plumb_bob", "equidistant": "equidistant", "none": "plumb_bob"}
# What ROS and OpenCV, its samples and its users, call the same things.
_NAMES = {
    "camera matrix": ("camera_matrix", "Camera_Matrix", "cameraMatrix", "K", "k", "M1"),
    "distortion": (
        "distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "D", "d",
        "D1",
    ),
    "rectification": ("rectification_matrix", "R", "r", "R1"),
    "projection": ("projection_matrix", "P", "p", "P1"),
    "width": ("image_width", "image_Width", "width"),
    "height": ("image_height", "image_Height", "height"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class CameraFile:
    """What a calibration file says.

    Attributes:
        format: name of the file's format, for people.
        info: the calibration, with stamp 0 and no `frame_id`. Width and height are 0 where the file
            doesn't say for which size it is.
        lidar_from_camera: 4x4 from the camera's optical frame to the LiDAR; None if the file
            doesn't say.
    """

    format: str
    info: CameraInfo
    lidar_from_camera: np.ndarray | None = None


def read_camera_file(path: Path | str, rectified: bool = True) -> CameraFile:
    """The camera of a calibration file.

    Args:
        rectified: whether the images are; KITTI's raw recordings have two sizes.

    Raises:
        CalibrationError: names the file and what is wrong in it; of an unknown format, what was
            seen and which formats are known.
    """
    try:
        return _parse(read_calibration_text(path), rectified)
    except CalibrationError as error:
        text = str(error)
        raise CalibrationError(text if text.startswith(f"{path}:") else f"{path}: {text}") from None


def _parse(text: str, rectified: bool) -> CameraFile:
    if re.search(r"^\[\s*image\s*\]", text, re.MULTILINE):
        return _parse_ini(text)
    kitti = parse_kitti_calib(text)
    if "P_rect_02" in kitti:
        return CameraFile("KITTI's calib_cam_to_cam.txt", raw_camera_info(kitti, rectified))
    if "P2" in kitti:
        return _parse_kitti(kitti)
    if text.lstrip().startswith(("<?xml", "<opencv_storage")):
        raise CalibrationError("OpenCV's XML isn't read: save it as YAML (cv::FileStorage, .yaml)")
    if {"R", "T"} <= kitti.keys() and "K" not in kitti:
        raise CalibrationError(
            "KITTI's calib_velo_to_cam.txt or calib_imu_to_velo.txt has no intrinsics: give "
            "calib_cam_to_cam.txt"
        )
    values = load_calibration_yaml(text)
    if not isinstance(values, dict):
        raise _unknown(repr(text.strip()[:40]) if text.strip() else "an empty file")
    cameras = sorted(name for name in values if re.fullmatch(r"cam\d+", str(name)))
    if cameras:
        return _parse_kalibr(values, cameras)
    if any(name in values for name in _NAMES["camera matrix"]):
        is_opencv = text.startswith("%YAML:")
        return _parse_matrices(values, f"{'OpenCV' if is_opencv else 'ROS'}'s calibration")
    raise _unknown(f"the keys {', '.join(map(str, values))[:100]}")


def _unknown(seen: str) -> CalibrationError:
    return CalibrationError(f"no calibration in a known format: {seen}; known are {KNOWN_FORMATS}")


def _parse_kitti(entries: dict[str, list[str]]) -> CameraFile:
    projection = entry(entries, "P2", (3, 4))
    return CameraFile(
        "KITTI's calibration",
        _info(0, 0, "plumb_bob", np.zeros(0), projection[:, :3], projection=projection),
        lidar_from_camera(entries),
    )


def _parse_ini(text: str) -> CameraFile:
    """`ost.ini`: a heading, then its numbers in lines of their own."""
    numbers: dict[str, list[str]] = {}
    words: list[str] = []
    sections = 0
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            sections += not re.match(r"\[\s*image\s*\]", line)
        elif line[:1].isalpha():
            words = [] if sections > 1 else numbers.setdefault(line, [])
        elif not line.startswith("#"):
            words += line.split()
    return _of_entries("ROS's ost.ini", "", {name: (name,) for name in _NAMES}, numbers)


def _parse_matrices(values: dict[Any, Any], format_name: str) -> CameraFile:
    roi = values.get("roi")
    reduced = [values.get("binning_x"), values.get("binning_y")]
    reduced += roi.values() if isinstance(roi, dict) else []
    if any(each not in (None, False, 0, 1) for each in reduced):
        raise CalibrationError(
            "binning and region of interest are read from bags only: give the calibration of the "
            "images as they are"
        )
    fisheye = str(values.get("fisheye_model")) == "1"
    model = "equidistant" if fisheye else str(values.get("distortion_model") or "")
    return _of_entries(format_name, model, _NAMES, values)


def _of_entries(
    format_name: str, model: str, names: dict[str, tuple[str, ...]], values: dict[Any, Any]
) -> CameraFile:
    """A camera of entries that are called by any of `names`; only the camera matrix must be."""

    def found(what: str) -> tuple[str, Any]:
        name = next((name for name in names[what] if name in values), names[what][0])
        return name, values.get(name)

    def matrix(what: str, shape: tuple[int, ...] | None, default: np.ndarray) -> np.ndarray:
        name, value = found(what)
        return default if value is None else numbers_of(name, value, shape)

    name, value = found("camera matrix")
    if value is None:
        raise CalibrationError(f"{name} is missing")
    distortion = matrix("distortion", None, np.zeros(0))
    info = _info(
        _pixels(*found("width")),
        _pixels(*found("height")),
        model or ("rational_polynomial" if distortion.size == 8 else "plumb_bob"),
        distortion,
        numbers_of(name, value, (3, 3)),
        matrix("rectification", (3, 3), np.eye(3)),
        matrix("projection", (3, 4), np.zeros((3, 4))),
    )
    return CameraFile(format_name, info)


def _parse_kalibr(values: dict[Any, Any], cameras: list[str]) -> CameraFile:
    name, camera = cameras[0], values[cameras[0]]
    try:
        model, lens = camera["camera_model"], camera.get("distortion_model", "none")
        numbers, coefficients = camera["intrinsics"], camera.get("distortion_coeffs", [])
        width, height = camera["resolution"]
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise CalibrationError(f"{name}: not as Kalibr writes it: {error!r}") from None
    if model != "pinhole" or lens not in _KALIBR_LENSES:
        raise CalibrationError(
            f"{name}: Kalibr's {model!s:.20}-{lens!s:.20} isn't supported: calibrate with "
            f"pinhole-{' or pinhole-'.join(_KALIBR_LENSES)}"
        )
    fx, fy, cx, cy = numbers_of(f"{name}.intrinsics", numbers, (4,))
    if len(cameras) > 1:
        _LOG.warning("of Kalibr's %d cameras %s is taken", len(cameras), name)
    if any(str(key).startswith("T_") for key in camera):
        _LOG.warning("Kalibr's T_cam_imu and T_cn_cnm1 lead to no LiDAR: they aren't used")
    info = _info(
        _pixels("resolution", width),
        _pixels("resolution", height),
        _KALIBR_LENSES[lens],
        numbers_of(f"{name}.distortion_coeffs", [] if lens == "none" else coefficients, None),
        np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
    )
    return CameraFile("Kalibr's camera chain", info)


def _info(
    width: int,
    height: int,
    model: str,
    distortion: np.ndarray,
    intrinsics: np.ndarray,
    rotation: np.ndarray | None = None,
    projection: np.ndarray | None = None,
) -> CameraInfo:
    return CameraInfo(
        stamp_ns=0,
        frame_id="",
        height=height,
        width=width,
        distortion_model=model,
        d=distortion.reshape(-1),
        k=intrinsics.reshape(9),
        r=(np.eye(3) if rotation is None else rotation).reshape(9),
        p=(np.zeros(12) if projection is None else projection).reshape(12),
    )


def _pixels(name: str, value: Any) -> int:
    """A width or height; 0 where there is none."""
    if value is None:
        return 0
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    try:
        pixels = int(str(value))
    except ValueError:
        pixels = 0
    if pixels <= 0:
        raise CalibrationError(f"{name} is {value!r:.40}, not a number of pixels")
    return pixels


def numbers_of(name: str, value: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """Numbers in a row, nested, or as `data` of a mapping."""
    if isinstance(value, dict):
        name, value = f"{name}.data", value.get("data")
    try:
        if value is None:
            raise ValueError
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise CalibrationError(f"{name} must be a row of numbers") from None
    return finite(name, matrix if shape is not None else matrix.reshape(-1), shape)


def load_calibration_yaml(text: str) -> Any:
    """The first document; OpenCV's `%YAML:1.0` and its tag of matrices are left out."""
    text = re.sub(r"\A%YAML[: ].*\n", "", text).replace("!!opencv-matrix", "")
    documents = re.split(r"^---.*$", text, flags=re.MULTILINE)
    try:
        return parse_yaml(next((part for part in documents if part.strip()), ""))
    except ConfigError as error:
        raise CalibrationError(str(error)) from None
