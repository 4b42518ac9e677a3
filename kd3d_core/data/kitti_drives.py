"""KITTI's recordings as they were driven: raw drives, and sequences of the tracking set.

A raw drive (`2011_09_26/2011_09_26_drive_0001_sync`) has `image_02`, `image_03`, `velodyne_points`
and `oxts`, each with `data` and `timestamps.txt`, and its calibration in the folder above. Its time
stamps name no zone; they are taken for UTC.

The tracking set (`training`) has `image_02/0001`, `image_03/0001`, `velodyne/0001`,
`label_02/0001.txt`, `oxts/0001.txt` and `calib/0001.txt`, and no time stamps.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from kd3d_core.data.kitti_calib import (
    entry,
    kitti_camera,
    lidar_from_camera,
    raw_camera_info,
    read_kitti_calib,
)
from kd3d_core.data.kitti_oxts import odom_from_imu
from kd3d_core.data.labels import Label
from kd3d_core.data.track_labels import read_tracking_labels
from kd3d_core.errors import CalibrationError, DataError, listed
from kd3d_core.files import files_in, read_text
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.camera_info import camera_from_info

START_NS = 1_317_042_272_000_000_000
"""Stamp of a first frame that has none, on KITTI's first day: the same files make the same bag."""

_IMAGES = (".png", ".jpg", ".jpeg")
_CALIB_FILES = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")

Stamped = tuple[int, Path]
"""A file, and when it was recorded, nanoseconds."""


@dataclass(frozen=True)
class Drive:
    """What the sensors of a drive recorded, and when.

    Attributes:
        images: of each camera: 2 is the left one with colours, 3 the right one.
        clouds: KITTI's point files.
        labels: of the times of images, where the drive has any.
        poses: 4x4 from the GPS/IMU unit (x forward, y left, z up) to where it first was.
        camera: makes the camera of such a number, for images of a height and a width.
        lidar_from_imu: 4x4; None where it isn't known.
    """

    images: dict[int, list[Stamped]]
    clouds: list[Stamped]
    camera: Callable[[int, tuple[int, int]], PinholeCamera]
    labels: dict[int, list[Label]] = field(default_factory=dict)
    poses: list[tuple[int, np.ndarray]] = field(default_factory=list)
    lidar_from_imu: np.ndarray | None = None

    def part(self, wanted: slice) -> "Drive":
        """Some of the first camera's images, and all else from then, half a period more."""
        first = next(iter(self.images.values()))
        chosen = [stamp for stamp, _ in first[wanted]]
        if not chosen:
            return Drive({key: [] for key in self.images}, [], self.camera)
        period = (first[-1][0] - first[0][0]) // max(len(first) - 1, 1)
        start, end = chosen[0] - period // 2, chosen[-1] + (period + 1) // 2
        return Drive(
            {key: _within(images, start, end) for key, images in self.images.items()},
            _within(self.clouds, start, end),
            self.camera,
            {stamp: labels for stamp, labels in self.labels.items() if start <= stamp < end},
            [(stamp, pose) for stamp, pose in self.poses if start <= stamp < end],
            self.lidar_from_imu,
        )


def _within(files: list[Stamped], start: int, end: int) -> list[Stamped]:
    return [(stamp, path) for stamp, path in files if start <= stamp < end]


# Raw drives


def is_raw_drive(root: Path) -> bool:
    """Whether a folder is a raw drive, as far as its images tell."""
    return (root / "image_02" / "data").is_dir() or (root / "image_03" / "data").is_dir()


def read_raw_drive(root: Path, cameras: tuple[int, ...] = (2,)) -> Drive:
    """A raw drive, synchronised or not; images may be rectified or not.

    `DataError` or `CalibrationError` name the file that is missing or wrong.
    """
    folders = [folder for folder in (root, root.parent) if (folder / _CALIB_FILES[0]).is_file()]
    if not folders:
        raise CalibrationError(
            f"{root}: {listed(_CALIB_FILES)} are neither in it nor in the folder above: get the "
            "day's calibration from KITTI's page of raw data"
        )
    images = {key: _stamped_files(root / f"image_{key:02d}", _IMAGES) for key in cameras}
    clouds = []
    if (root / "velodyne_points").is_dir():
        clouds = _stamped_files(root / "velodyne_points", (".bin",))
    lidar_from_imu, poses = _raw_rigid(folders[0] / "calib_imu_to_velo.txt"), []
    if lidar_from_imu is not None and (root / "oxts").is_dir():
        rows = _stamped_files(root / "oxts", (".txt",))
        numbers = [_row(read_text(path), str(path)) for _, path in rows]
        poses = list(zip([stamp for stamp, _ in rows], odom_from_imu(numbers), strict=True))
    camera = cache(partial(_raw_camera, folders[0]))
    return Drive(images, clouds, camera, poses=poses, lidar_from_imu=lidar_from_imu)


def _raw_camera(folder: Path, camera: int, size: tuple[int, int]) -> PinholeCamera:
    path = folder / _CALIB_FILES[0]
    entries = read_kitti_calib(path)
    camera_from_velodyne = _raw_rigid(folder / _CALIB_FILES[1])
    if camera_from_velodyne is None:
        raise CalibrationError(f"{folder / _CALIB_FILES[1]} is missing")
    try:
        pose = lidar_from_camera(
            {
                "R0_rect": entries.get("R_rect_00", []),
                "Tr_velo_to_cam": list(map(str, camera_from_velodyne[:3].reshape(-1))),
            }
        )
        for rectified in (True, False):
            info = raw_camera_info(entries, rectified, camera)
            if (info.height, info.width) == size:
                return camera_from_info(info, pose, rectified)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    raise CalibrationError(
        f"{path}: images of camera {camera} have {size[1]} x {size[0]} pixels, neither S_rect_"
        f"{camera:02d} nor S_{camera:02d}: it is of another day"
    )


def _raw_rigid(path: Path) -> np.ndarray | None:
    """The 4x4 of a file with R and T; None if it isn't there."""
    if not path.is_file():
        return None
    entries, rigid = read_kitti_calib(path), np.eye(4)
    try:
        rigid[:3, :3], rigid[:3, 3] = entry(entries, "R", (3, 3)), entry(entries, "T", (3,))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    return rigid


def _stamped_files(folder: Path, endings: tuple[str, ...]) -> list[Stamped]:
    """The files in `data`, each with the stamp on the line of its number; in that order."""
    if not (folder / "data").is_dir():
        raise DataError(f"{folder / 'data'}: there is no such folder")
    files = files_in(folder / "data", endings)
    if not files:
        others = {path.suffix for path in (folder / "data").iterdir()}
        hint = ": give the drive that ends in _sync" if ".txt" in others else ""
        raise DataError(f"{folder / 'data'}: there are no {' or '.join(endings)} files{hint}")
    path = folder / "timestamps.txt"
    lines = read_text(path).splitlines()
    stamped = []
    for file in files:
        number = int(file.stem) if file.stem.isdecimal() else len(lines)
        if number >= len(lines):
            raise DataError(f"{path}: it has {len(lines)} lines, and none for {file.name}")
        stamped.append((_stamp_ns(lines[number], f"{path}:{number + 1}"), file))
    late = next((b for a, b in pairwise(stamped) if b[0] <= a[0]), None)
    if late is not None:
        raise DataError(f"{path}: the stamp of {late[1].name} isn't later than the one before it")
    return stamped


def _stamp_ns(text: str, where: str) -> int:
    """Nanoseconds since 1970 of `2011-09-26 13:02:25.964389445`."""
    whole, _, fraction = text.strip().partition(".")
    try:
        if not 1 <= len(fraction) <= 9:
            raise ValueError
        moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0"))
    except ValueError:
        raise DataError(
            f"{where}: {text[:40]!r} is no time such as 2011-09-26 13:02:25.9643"
        ) from None


# The tracking set


def tracking_sequences(root: Path) -> list[str]:
    """Names of the sequences of a tracking set; empty if a folder is none."""
    folder = _tracking_folder(root)
    if not (folder / "image_02").is_dir():
        return []
    return sorted(path.name for path in (folder / "image_02").iterdir() if path.is_dir())


def read_tracking_sequence(
    root: Path, sequence: str, rate_hz: float, cameras: tuple[int, ...] = (2,)
) -> Drive:
    """A sequence of the tracking set, with stamps of so many frames per second.

    `DataError` or `CalibrationError` name the file that is missing or wrong.
    """
    folder = _tracking_folder(root)

    def stamp_ns(frame: int) -> int:
        return START_NS + round(frame * 1e9 / rate_hz)

    def stamped(part: str, endings: tuple[str, ...]) -> list[Stamped]:
        files = files_in(folder / part / sequence, endings)
        if strange := [path for path in files if not path.stem.isdecimal()]:
            raise DataError(f"{strange[0]}: its name is no number of a frame")
        return [(stamp_ns(int(path.stem)), path) for path in files]

    images = {}
    for key in cameras:
        if not (folder / f"image_{key:02d}" / sequence).is_dir():
            raise DataError(f"{folder}: there is no image_{key:02d}/{sequence}")
        images[key] = stamped(f"image_{key:02d}", _IMAGES)
    clouds = stamped("velodyne", (".bin",)) if (folder / "velodyne" / sequence).is_dir() else []
    calib = folder / "calib" / f"{sequence}.txt"
    labels = {}
    if (path := folder / "label_02" / f"{sequence}.txt").is_file():
        found = read_tracking_labels(path)
        labels = {stamp: found.get(int(image.stem), []) for stamp, image in images[cameras[0]]}
    lidar_from_imu, poses = _tracking_imu(calib), []
    if lidar_from_imu is not None and (path := folder / "oxts" / f"{sequence}.txt").is_file():
        lines = read_text(path).splitlines()
        rows = [_row(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
        stamps = [stamp_ns(frame) for frame in range(len(rows))]
        poses = list(zip(stamps, odom_from_imu(rows), strict=True))
    camera = cache(lambda number, size: kitti_camera(calib, size[1], size[0], number))
    return Drive(images, clouds, camera, labels, poses, lidar_from_imu)


def _tracking_folder(root: Path) -> Path:
    return root / "training" if (root / "training" / "image_02").is_dir() else root


def _tracking_imu(calib: Path) -> np.ndarray | None:
    entries = read_kitti_calib(calib)
    name = next((name for name in ("Tr_imu_velo", "Tr_imu_to_velo") if name in entries), None)
    if name is None:
        return None
    rigid = np.eye(4)
    try:
        rigid[:3] = entry(entries, name, (3, 4))
    except CalibrationError as error:
        raise CalibrationError(f"{calib}: {error}") from None
    return rigid


def _row(text: str, where: str) -> list[float]:
    """The 30 numbers of a packet of the GPS/IMU unit."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 30 or not np.isfinite(numbers).all():
        raise DataError(f"{where}: a packet of oxts has 30 finite numbers")
    return numbers
