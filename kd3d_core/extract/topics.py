"""Which topics of a recording are extracted."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd3d_core.data.bag import BagReader
from kd3d_core.data.bag.choice import CameraTopics, choose_camera, choose_topic, topics_of
from kd3d_core.data.kitti_bag import TRUTH_TOPIC
from kd3d_core.errors import DataError, listed, shown
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    ObjectBoxes,
    Odometry,
    PointCloud,
    Transforms,
)

OPTIONS = ("--image", "--camera-info")
_DEPTH = ("16UC1", "32FC1")


@dataclass(frozen=True)
class RecordingTopics:
    """The topics of a recording that are extracted.

    Attributes:
        cameras: images and CameraInfos of each camera.
        points: clouds of the LiDAR; empty if there are none.
        labels: labels; empty if there are none.
        transforms: `/tf`, `/tf_static` and odometry, under whatever name.
    """

    cameras: tuple[CameraTopics, ...]
    points: str
    labels: str
    transforms: tuple[str, ...]

    @property
    def payloads(self) -> set[str]:
        """Topics of what becomes files: images, clouds and labels."""
        images = {camera.images for camera in self.cameras}
        return images | ({self.points, self.labels} - {""})

    @property
    def infos(self) -> set[str]:
        """Topics of CameraInfos."""
        return {camera.infos for camera in self.cameras}


def choose_topics(reader: BagReader, config: ExtractConfig) -> RecordingTopics:
    """The topics that settings name, or those of the right types.

    Raises:
        DataError: something isn't there, or it can't be told which of several is meant; says what
            the recording has instead.
    """
    cameras = _cameras(reader, config)
    points = _optional(reader, PointCloud, config.points, "--points")
    labels = _optional(reader, ObjectBoxes, config.labels, "--labels", (TRUTH_TOPIC,))
    transforms = tuple(topics_of(reader, Transforms, Odometry))
    if points and not transforms and not config.extrinsics:
        raise DataError(
            f"{reader.path}: nothing says where camera and LiDAR are: there is neither /tf_static "
            "nor /tf in it: give --extrinsics FILE"
        )
    if config.extrinsics and len(config.extrinsics) != len(cameras):
        raise DataError(
            f"{reader.path}: --extrinsics names {len(config.extrinsics)} files for "
            f"{len(cameras)} cameras ({listed(camera.images for camera in cameras)}): give one for "
            "each, in this order"
        )
    return RecordingTopics(cameras, points, labels, transforms)


def _cameras(reader: BagReader, config: ExtractConfig) -> tuple[CameraTopics, ...]:
    if config.images:
        infos = config.infos or ("",) * len(config.images)
        return tuple(
            choose_camera(reader, images, info, OPTIONS)
            for images, info in zip(config.images, infos, strict=True)
        )
    found = _pictures(reader)
    beside = {topic.rpartition("/")[0] for topic in topics_of(reader, CameraInfo)}
    calibrated = [name for name in found if _folder(name) in beside]
    if len(found) > 1 and calibrated:
        return tuple(choose_camera(reader, name, options=OPTIONS) for name in calibrated)
    return (choose_camera(reader, found[0] if len(found) == 1 else "", options=OPTIONS),)


def _pictures(reader: BagReader) -> list[str]:
    """Topics with images of a camera: neither depth, nor the same images as another, compressed."""
    names = topics_of(reader, Image, CompressedImage)
    raw = {name: name.removesuffix("/compressed") for name in names}
    return [
        name
        for name in names
        if (raw[name] == name or raw[name] not in names)
        and not name.endswith("/compressedDepth")
        and not _is_depth(reader, name)
    ]


def _is_depth(reader: BagReader, topic: str) -> bool:
    """Whether the first image that can be read is a depth map."""
    try:
        message = next((reader.decode(raw) for raw in reader.messages((topic,))), None)
    except DataError:
        return False
    return isinstance(message, Image) and message.encoding in _DEPTH


def _folder(image_topic: str) -> str:
    return image_topic.removesuffix("/compressed").rpartition("/")[0]


def _optional(
    reader: BagReader, kind: type, given: str, option: str, preferred: Sequence[str] = ()
) -> str:
    """The topic of a kind that a recording need not have; empty if it has none."""
    if not given and not topics_of(reader, kind):
        return ""
    return choose_topic(reader, (kind,), given, preferred=preferred, option=option)


def set_names(images: Sequence[str]) -> dict[str, str]:
    """Names of the folders of cameras, by their image topics; empty for a single one.

    >>> set_names(["/camera/image_raw"])
    {'/camera/image_raw': ''}
    >>> list(set_names(["/front/image_raw", "/rear/image_raw/compressed"]).values())
    ['front', 'rear']
    """
    if len(images) < 2:
        return dict.fromkeys(images, "")
    names = {topic: _folder(topic).strip("/").replace("/", "_") for topic in images}
    if len(set(names.values())) < len(names) or not all(names.values()):
        names = {topic: topic.strip("/").replace("/", "_") for topic in images}
    if len(set(names.values())) < len(names):
        raise DataError(f"cameras can't be told apart by their topics {listed(images)}")
    if bad := [topic for topic, name in names.items() if name.startswith(".") or not name]:
        raise DataError(f"{shown(bad[0])!r} can't be the name of a folder")
    return names
