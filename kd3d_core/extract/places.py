"""Where the cameras and the robot of a recording were."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from kd3d_core.data.bag import BagReader
from kd3d_core.data.extrinsics_file import read_extrinsics
from kd3d_core.extract.candidates import Candidates
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.index import header
from kd3d_core.extract.plan import MessageRef
from kd3d_core.extract.topics import RecordingTopics
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.types import CameraInfo
from kd3d_core.runtime.bag_transforms import BagTransforms

_CAMERA_HEIGHT_M = 1.65

Infos = Sequence[tuple[int, CameraInfo]]
"""CameraInfos of a topic, each from a stamp on."""


def require_transforms(
    reader: BagReader, topics: RecordingTopics, config: ExtractConfig, transforms: BagTransforms
) -> None:
    """Refuse a recording in which nothing joins a camera and the LiDAR, before it is read through.

    Raises:
        CalibrationError: names the frames, and what else to do.
    """
    if not topics.points or config.extrinsics:
        return
    lidar = _first_frame(reader, topics.points)
    for camera in topics.cameras:
        frame = _first_frame(reader, camera.images) or _first_frame(reader, camera.infos)
        transforms.require_path(lidar, frame)


def _first_frame(reader: BagReader, topic: str) -> str:
    """The coordinate frame that the first message on a topic names; may be empty."""
    raw = next(reader.messages((topic,)), None)
    return header(raw.data)[1] if raw is not None and not raw.damage else ""


class Places:
    """Poses of a recording's cameras in the LiDAR's frame, or in a virtual one without LiDAR.

    Attributes:
        poses: 4x4 `lidar_from_camera`, those that differ, in the order in which they were met.
    """

    def __init__(
        self,
        transforms: BagTransforms,
        config: ExtractConfig,
        images: Sequence[Candidates],
        infos: Sequence[Infos],
        scans: Candidates | None,
    ) -> None:
        """`images` and `infos` are of each camera; `scans` is None without LiDAR."""
        self.transforms = transforms
        self.poses: list[np.ndarray] = []
        self._numbers: dict[bytes, int] = {}
        self._images, self._infos, self._scans = images, infos, scans
        self._extrinsics = [read_extrinsics(file) for file in config.extrinsics]
        self._virtual = virtual_lidar_from_camera(config.camera_height_m or _CAMERA_HEIGHT_M)

    def number_of_pose(self, camera: int, image: int, scan: int | None) -> int:
        """Which of the poses a camera had when it took an image.

        `CalibrationError` if the recording doesn't say it.
        """
        pose = self._pose(camera, image, scan)
        key = pose.tobytes()
        if key not in self._numbers:
            self._numbers[key] = len(self.poses)
            self.poses.append(pose)
        return self._numbers[key]

    def _pose(self, camera: int, image: int, scan: int | None) -> np.ndarray:
        if scan is None or self._scans is None:
            return self._virtual
        if self._extrinsics:
            return self._extrinsics[camera]
        lidar_frame, camera_frame = self._scans.frame_id(scan), self.camera_frame(camera, image)
        at = self._images[camera].ref(image)
        return self.transforms.lookup(lidar_frame, camera_frame, at.stamp_ns, at.recorded_ns)

    def camera_frame(self, camera: int, image: int) -> str:
        """The coordinate frame of a camera, which its images or its CameraInfos name."""
        return self._images[camera].frame_id(image) or (
            self._infos[camera][0][1].frame_id.lstrip("/")
        )

    def number_of_info(self, camera: int, image: int) -> int:
        """The CameraInfo that holds for an image: the latest one, or the first of all."""
        index = self._images[camera].index
        stamp_ns = index.stamp_ns[image] or index.recorded_ns[image]
        return max(bisect_right(self._infos[camera], stamp_ns, key=lambda item: item[0]) - 1, 0)


class Travel:
    """Tells whether the robot has moved since it was last asked and had."""

    def __init__(self, transforms: BagTransforms, least_m: float) -> None:
        """`least_m` is how far it must have moved, metres; 0 asks nothing of it."""
        self._transforms, self._least_m = transforms, least_m
        self._last: np.ndarray | None = None

    def has_moved(self, frame: str, at: MessageRef) -> bool:
        """Whether a frame of the robot has; `CalibrationError` if its place isn't known."""
        if not self._least_m:
            return True
        self._transforms.follow(at.recorded_ns)
        above = self._transforms.buffer.ancestors(frame, at.stamp_ns)
        root = above[-1] if above else frame
        place = self._transforms.lookup(root, frame, at.stamp_ns, at.recorded_ns)[:3, 3]
        if self._last is not None and np.linalg.norm(place - self._last) < self._least_m:
            return False
        self._last = place
        return True
