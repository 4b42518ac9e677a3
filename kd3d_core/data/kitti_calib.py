"""KITTI's calibration files: `name: numbers`, over one line or several.

Object and tracking set: P0 to P3, R0_rect, Tr_velo_to_cam. Odometry: P0 to P3 and Tr, from the
velodyne to the rectified camera 0. Raw recordings, calib_cam_to_cam.txt: S, K, D, R, T of each
camera and S_rect, R_rect, P_rect; nothing on the velodyne.
"""

from pathlib import Path

import numpy as np

from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.files import read_text
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.checks import finite
from kd3d_core.messages.types import CameraInfo

# Names that mean the same in other parts of KITTI.
_ALIASES = {"R_rect": "R0_rect", "Tr_velo_cam": "Tr_velo_to_cam"}
_MOST_BYTES = 1_000_000


def kitti_camera(path: Path | str, width: int, height: int, camera: int = 2) -> PinholeCamera:
    """A camera (2 took `image_2`) of a KITTI file (object, tracking or odometry), images rectified.

    `width` and `height` are the images', in pixels, which the file doesn't say. `CalibrationError`
    names the file and the entry that is missing or impossible.
    """
    entries = read_kitti_calib(path)
    try:
        projection = entry(entries, f"P{camera}", (3, 4))
        made = PinholeCamera(projection, width, height, lidar_from_camera(entries))
        made.check_view()
        return made
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None


def lidar_from_camera(entries: dict[str, list[str]]) -> np.ndarray:
    """4x4 from the rectified camera 0, to which P0 to P3 belong, to the velodyne."""
    camera_from_lidar, rectified = np.eye(4), np.eye(4)
    if "Tr" in entries and "Tr_velo_to_cam" not in entries:
        camera_from_lidar[:3] = entry(entries, "Tr", (3, 4))
    else:
        rectified[:3, :3] = entry(entries, "R0_rect", (3, 3))
        camera_from_lidar[:3] = entry(entries, "Tr_velo_to_cam", (3, 4))
    try:
        return np.linalg.inv(rectified @ camera_from_lidar)
    except np.linalg.LinAlgError:
        raise CalibrationError("R0_rect or Tr_velo_to_cam is no rotation") from None


def raw_camera_info(entries: dict[str, list[str]], rectified: bool, camera: int = 2) -> CameraInfo:
    """A camera of a raw recording's calib_cam_to_cam.txt.

    `rectified` says whether the size is that of the rectified images or of the raw ones.
    """
    key = f"{camera:02d}"
    size_name = f"S_rect_{key}" if rectified and f"S_rect_{key}" in entries else f"S_{key}"
    width, height = entry(entries, size_name, (2,))
    return CameraInfo(
        stamp_ns=0,
        frame_id="",
        height=int(height),
        width=int(width),
        distortion_model="plumb_bob",
        d=entry(entries, f"D_{key}", (5,)),
        k=entry(entries, f"K_{key}", (9,)),
        r=entry(entries, f"R_rect_{key}", (9,)),
        p=entry(entries, f"P_rect_{key}", (12,)),
    )


def read_kitti_calib(path: Path | str) -> dict[str, list[str]]:
    """The entries of a file: words by name; `name numbers`, without a colon, is read too.

    A line that begins with a number goes on with the entry before it.
    """
    return parse_kitti_calib(read_calibration_text(path))


def read_calibration_text(path: Path | str) -> str:
    """The text of a calibration file; `CalibrationError` if it isn't text of less than 1 MB."""
    try:
        return read_text(path, _MOST_BYTES)
    except DataError as error:
        raise CalibrationError(str(error)) from None


def parse_kitti_calib(text: str) -> dict[str, list[str]]:
    """As `read_kitti_calib`.

    >>> parse_kitti_calib("P2: 1 0 0\\n  0 1 0\\nR_rect 1")
    {'P2': ['1', '0', '0', '0', '1', '0'], 'R0_rect': ['1']}
    """
    entries: dict[str, list[str]] = {}
    words: list[str] = []
    for line in text.splitlines():
        if not _starts_with_number(line):
            name, *rest = line.replace(":", " ", 1).split() or [""]
            if not name:
                continue
            words = entries[_ALIASES.get(name, name)] = rest
        else:
            words += line.split()
    return entries


def entry(entries: dict[str, list[str]], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of an entry; `CalibrationError` if they aren't there, or aren't finite."""
    if name not in entries:
        there = ", ".join(entries) or "nothing"
        raise CalibrationError(f"there is no line {name}, only {there[:200]}")
    try:
        numbers = np.array(entries[name], np.float64)
    except ValueError:
        raise CalibrationError(f"{name} is not a row of numbers") from None
    return finite(name, numbers, shape)


def _starts_with_number(line: str) -> bool:
    try:
        float(line.split(maxsplit=1)[0])
    except (IndexError, ValueError):
        return False
    return True
