"""Frames from bags: images with the CameraInfo and the transforms that belong to them."""

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from kd3d_core.data.bag import BagReader, RawMessage
from kd3d_core.data.kitti_bag import TRUTH_TOPIC
from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    Message,
    ObjectBoxes,
    Transform,
    Transforms,
)
from kd3d_core.offline.image_files import VIRTUAL_FRAME
from kd3d_core.offline.source import FrameReference, Source
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.rejection import NotYetError

_TYPE_NAMES = {"image": "sensor_msgs/Image or CompressedImage", "info": "sensor_msgs/CameraInfo"}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagSettings:
    """How to read a bag; the last three are the node's parameters of the same meaning.

    Attributes:
        image_topic: empty: the only one with images, raw or compressed; raw if it has both.
        info_topic: empty: the only CameraInfo, or the one beside the images.
        detector_frame: frame of the results, joined to the camera's by `/tf_static`; empty: a
            virtual one.
        camera_height: metres over the ground, for the virtual frame.
        rectified: whether the images are rectified already.
    """

    image_topic: str = ""
    info_topic: str = ""
    detector_frame: str = ""
    camera_height: float = 1.65
    rectified: bool = True


def bag_source(path: Path, settings: BagSettings, wanted: slice) -> Source:
    """The images of a bag, named by their number in it, `000000` the first.

    Args:
        path: rosbag2 folder, `.mcap`, `.db3` or ROS 1 `.bag` file.
        settings: topics and frames.
        wanted: which of the images.

    Raises:
        DataError: the bag can't be read, or it isn't clear which topics are meant.
    """
    with BagReader(path) as reader:
        images, infos = _topics(reader, settings)
        count, rate_hz = reader.topics[images].count, _rate_hz(reader, images)
    numbers = range(count)[wanted]
    results_frame = settings.detector_frame.lstrip("/") or VIRTUAL_FRAME
    references = _BagImages(path, settings, images, infos, numbers)
    return Source(references, tuple(map(_frame_name, numbers)), rate_hz, results_frame)


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: by its ending, or by what a folder holds."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(
            file.suffix in (".mcap", ".db3") for file in path.iterdir()
        )
    return path.suffix in (".mcap", ".db3", ".bag")


def _frame_name(number: int) -> str:
    return f"{number:06d}"


def _rate_hz(reader: BagReader, topic: str) -> float:
    """Messages per second between the first and the last of a topic; 10 where there is only one.

    Other topics may begin earlier and last longer.
    """
    first = next(reader.messages((topic,)), None)
    first_ns = last_ns = reader.start_ns if first is None else first.stamp_ns
    # The last one is looked for from the end, so that not all of the bag is read.
    from_ns, reach_ns = reader.end_ns, 10**9
    while last_ns == first_ns and from_ns > first_ns:
        from_ns = max(first_ns, reader.end_ns - reach_ns)
        for raw in reader.messages((topic,), from_ns):
            last_ns = raw.stamp_ns
        reach_ns *= 4
    count = reader.topics[topic].count
    return (count - 1) * 1e9 / (last_ns - first_ns) if last_ns > first_ns else 10.0


@dataclass(frozen=True)
class _BagImages:
    path: Path
    settings: BagSettings
    image_topic: str
    info_topic: str
    numbers: range

    def __iter__(self) -> Iterator[FrameReference]:
        with BagReader(self.path) as reader:
            world = _World(reader, self.settings, self.image_topic, self.info_topic)
            raws = enumerate(reader.messages((self.image_topic,)))
            for number, raw in islice(raws, self.numbers.start, self.numbers.stop):
                name = _frame_name(number)
                yield FrameReference(name, partial(world.frame, name, raw))


class _World:
    """What a bag knows about its cameras, at the time of an image."""

    def __init__(
        self, reader: BagReader, settings: BagSettings, image_topic: str, info_topic: str
    ) -> None:
        self._reader = reader
        self._settings = settings
        # CameraInfos and transforms are read before the first image: whichever comes later in the
        # bag, the node would have waited for it.
        infos = (message for _, message in _decoded(reader, info_topic))
        self._infos = [info for info in infos if isinstance(info, CameraInfo)]
        self._infos.sort(key=lambda info: info.stamp_ns)
        self._info_stamps = [info.stamp_ns for info in self._infos]
        static = [name for name in _names(reader, Transforms) if name.endswith("tf_static")]
        self._transforms = deque(
            (recorded_ns, transform)
            for recorded_ns, message in _decoded(reader, *static)
            if isinstance(message, Transforms)
            for transform in message.transforms
        )
        self._frames = TransformBuffer()
        self._cameras = CameraSource(
            self._frames,
            detector_frame=settings.detector_frame,
            camera_height=settings.camera_height,
            image_is_rectified=settings.rectified,
            image_topic=image_topic,
        )
        self._doubts: tuple[str, ...] = ()
        truth = [name for name in _names(reader, ObjectBoxes) if name == TRUTH_TOPIC]
        truths = (message for _, message in _decoded(reader, *truth))
        self._misses_truth = False
        self._truths = {boxes.stamp_ns: boxes for boxes in truths if isinstance(boxes, ObjectBoxes)}

    def frame(self, name: str, raw: RawMessage) -> Frame:
        """The frame of a raw image message; a `Kd3dError` if it can't be used."""
        image = self._reader.decode(raw)
        assert isinstance(image, (Image, CompressedImage))
        if self._infos:
            latest = max(bisect_right(self._info_stamps, image.stamp_ns) - 1, 0)
            self._cameras.set_info(self._infos[latest], self._infos[latest].frame_id)
        while self._transforms and self._transforms[0][0] <= raw.stamp_ns:
            self._learn_transform()
        pixels = image.rgb()
        height, width, _ = pixels.shape
        camera = self._camera(image.frame_id, width, height)
        truth = self._truths.get(image.stamp_ns)
        if truth is not None and truth.frame_id != self._settings.detector_frame.lstrip("/"):
            if not self._misses_truth:
                wanted = self._settings.detector_frame or "the virtual frame"
                _LOG.warning("labels are in %s, not in %s: left out", truth.frame_id, wanted)
            self._misses_truth = True
            truth = None
        extrinsics = self._extrinsics(image.stamp_ns, image.frame_id, camera)
        return Frame(name, image.stamp_ns, pixels, camera, extrinsics, truth)

    def _camera(self, frame_id: str, width: int, height: int) -> PinholeCamera:
        while True:
            try:
                camera = self._cameras.camera(frame_id, width, height)
                break
            except NotYetError:
                if not self._transforms:
                    raise
                self._learn_transform()
        if self._cameras.doubts != self._doubts:
            self._doubts = self._cameras.doubts
            for doubt in self._doubts:
                _LOG.warning("%s", doubt)
        return camera

    def _extrinsics(self, stamp_ns: int, frame_id: str, camera: PinholeCamera) -> Transform | None:
        """Where the virtual frame is, as the node tells TF: a child of the camera's."""
        parent = self._cameras.frame_of(frame_id)
        if not self._cameras.is_virtual or not parent:
            return None
        return Transform(stamp_ns, parent, VIRTUAL_FRAME, camera.camera_from_lidar)

    def _learn_transform(self) -> None:
        _, found = self._transforms.popleft()
        try:
            self._frames.add(found.parent, found.child, found.parent_from_child)
        except CalibrationError as error:
            _LOG.warning("%s: /tf_static: %s", self._reader.path, error)


def _decoded(reader: BagReader, *topics: str) -> Iterator[tuple[int, Message]]:
    """When messages were recorded, and the messages, in that order; warns of damaged ones."""
    for raw in reader.messages(topics):
        try:
            yield raw.stamp_ns, reader.decode(raw)
        except DataError as error:
            _LOG.warning("%s is left out: %s", raw.topic, error)


def _topics(reader: BagReader, settings: BagSettings) -> tuple[str, str]:
    """Names of the topics with images and with their CameraInfo."""
    images = _names(reader, Image, CompressedImage)
    if not settings.image_topic:
        images = [name for name in images if not _is_depth_or_copy(name, images)]
    image = _chosen(reader, "image", settings.image_topic, images, ())
    folders = (_raw_name(image).rpartition("/")[0], image.rpartition("/")[0])
    beside = [f"{folder}/camera_info" for folder in folders]
    return image, _chosen(reader, "info", settings.info_topic, _names(reader, CameraInfo), beside)


def _is_depth_or_copy(topic: str, images: list[str]) -> bool:
    """Whether a topic has compressed depth, or the same images as another one, compressed."""
    return topic.endswith("/compressedDepth") or (
        _raw_name(topic) != topic and _raw_name(topic) in images
    )


def _raw_name(topic: str) -> str:
    """Where image_transport has the raw images of a topic with compressed ones."""
    return topic.removesuffix("/compressed")


def _names(reader: BagReader, *types: type[Message]) -> list[str]:
    wanted = [kind.ros_type for kind in types]
    return [topic.name for topic in reader.topics.values() if topic.type in wanted and topic.count]


def _chosen(
    reader: BagReader, kind: str, given: str, found: list[str], preferred: Sequence[str]
) -> str:
    type_name = _TYPE_NAMES[kind]
    if given:
        if given not in found:
            there = ", ".join(found) or "none"
            raise DataError(f"{reader.path}: no {type_name} on {given}; there is {there}")
        return given
    for name in preferred:
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"{reader.path}: there is no {type_name} in it: `kd3d-bag info` lists it")
    raise DataError(
        f"{reader.path}: {type_name} is on {', '.join(found)}: choose with --{kind}-topic"
    )
