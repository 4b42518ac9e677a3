"""Frames from bags: images with the CameraInfo and the transforms that belong to them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagReader, RawMessage
from kd3d_core.data.bag.choice import CameraTopics, choose_camera, topics_of
from kd3d_core.data.kitti_bag import TRUTH_TOPIC
from kd3d_core.errors import Once, shown
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import VIRTUAL_FRAME
from kd3d_core.messages.types import CompressedImage, Image, ObjectBoxes, Transform
from kd3d_core.offline.source import FrameReference, Source
from kd3d_core.runtime.bag_cameras import BagCameras
from kd3d_core.runtime.bag_transforms import decoded

_RATE_HZ = 10.0
_SLOWEST_HZ = 1e-3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagSettings:
    """How to read a bag; the last three are the node's parameters of the same meaning.

    Attributes:
        image_topic: empty: the only one with images, raw or compressed; raw if it has both.
        info_topic: empty: the only CameraInfo, or the one beside the images.
        detector_frame: frame of the results, joined to the camera's by `/tf_static` or `/tf`;
            empty: a virtual one.
        camera_height: metres over the ground, for the virtual frame.
        rectified: whether the images are rectified already.
        with_poses: whether frames are told where the detector was, by `/tf` or odometry.
    """

    image_topic: str = ""
    info_topic: str = ""
    detector_frame: str = ""
    camera_height: float = 1.65
    rectified: bool = True
    with_poses: bool = False


def bag_source(path: Path, settings: BagSettings, wanted: slice) -> Source:
    """The images of a bag, named by their number in it, `000000` the first."""
    with BagReader(path) as reader:
        topics = choose_camera(reader, settings.image_topic, settings.info_topic)
        count, rate_hz = reader.topics[topics.images].count, _rate_hz(reader, topics.images)
    numbers = range(count)[wanted]
    results_frame = settings.detector_frame.lstrip("/") or VIRTUAL_FRAME
    references = BagImages(path, settings, topics, numbers)
    names = tuple(map(_frame_name, numbers))
    rate_hz /= wanted.step or 1
    return Source(references, names, rate_hz, results_frame, topics, count=len(names))


def _frame_name(number: int) -> str:
    return f"{number:06d}"


def _rate_hz(reader: BagReader, topic: str) -> float:
    """Messages per second between the first and the last of a topic; 10 where they can't be told.

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
    if last_ns <= first_ns:
        return _RATE_HZ
    rate_hz = (reader.topics[topic].count - 1) * 1e9 / (last_ns - first_ns)
    if rate_hz < _SLOWEST_HZ:
        _log.warning(
            "%s: %s lasts %.3g s by its stamps, of which some must be wrong: a video of it will "
            "have %g frames per second",
            *(reader.path, shown(topic), (last_ns - first_ns) / 1e9, _RATE_HZ),
        )
        return _RATE_HZ
    return rate_hz


@dataclass(frozen=True)
class BagImages:
    """The references of a bag."""

    path: Path
    settings: BagSettings
    topics: CameraTopics
    numbers: range

    def __iter__(self) -> Iterator[FrameReference]:
        settings = self.settings
        with (
            BagReader(self.path) as reader,
            BagCameras(
                self.path,
                self.topics,
                detector_frame=settings.detector_frame,
                camera_height=settings.camera_height,
                image_is_rectified=settings.rectified,
            ) as cameras,
        ):
            frames = _Frames(reader, cameras, settings)
            raws = enumerate(reader.messages((self.topics.images,)))
            for number, raw in islice(raws, self.numbers.start, self.numbers.stop):
                name = _frame_name(number)
                yield FrameReference(name, partial(frames.load, name, raw))


class _Frames:
    """Makes frames of image messages; warns once of what is odd about them."""

    def __init__(self, reader: BagReader, cameras: BagCameras, settings: BagSettings) -> None:
        self._reader = reader
        self._cameras = cameras
        self._detector_frame = settings.detector_frame.lstrip("/")
        self._with_poses = settings.with_poses
        self._warn_once = Once(lambda text: _log.warning("%s: %s", self._reader.path, text))
        truth = [name for name in topics_of(reader, ObjectBoxes) if name == TRUTH_TOPIC]
        self._truths = {
            boxes.stamp_ns or raw.stamp_ns: boxes
            for raw, boxes in decoded(reader, *truth)
            if isinstance(boxes, ObjectBoxes)
        }

    def load(self, name: str, raw: RawMessage) -> Frame:
        """The frame of a raw image message; a `Kd3dError` if it can't be used."""
        image = self._reader.decode(raw)
        assert isinstance(image, (Image, CompressedImage))
        stamp_ns = image.stamp_ns or raw.stamp_ns
        if not image.stamp_ns:
            self._warn_once(f"images on {shown(raw.topic)} have no stamp: the bag's time is used")
        pixels = image.rgb()
        height, width, _ = pixels.shape
        camera = self._cameras.camera(image.frame_id, width, height, stamp_ns, raw.stamp_ns)
        for doubt in self._cameras.source.doubts:
            self._warn_once(doubt)
        truth = self._truths.get(stamp_ns)
        if truth is not None and truth.frame_id != self._detector_frame:
            wanted = self._detector_frame or "the virtual frame"
            self._warn_once(f"labels are in {shown(truth.frame_id)}, not in {wanted}: left out")
            truth = None
        camera_frame = self._cameras.source.frame_of(image.frame_id)
        extrinsics = self._extrinsics(stamp_ns, camera_frame, camera)
        pose = self._pose(camera_frame, camera, stamp_ns, raw.stamp_ns)
        return Frame(name, stamp_ns, pixels, camera, extrinsics, truth, camera_frame, image, pose)

    def _pose(
        self, camera_frame: str, camera: PinholeCamera, stamp_ns: int, recorded_ns: int
    ) -> np.ndarray | None:
        """Where the detector is in a frame that stands still, if it is asked for and known."""
        if not self._with_poses:
            return None
        pose = self._cameras.transforms.steady_pose(camera_frame, stamp_ns, recorded_ns)
        return None if pose is None else pose @ camera.camera_from_lidar

    def _extrinsics(self, stamp_ns: int, parent: str, camera: PinholeCamera) -> Transform | None:
        """Where the virtual frame is, as the node tells TF: a child of the camera's."""
        if not self._cameras.source.is_virtual or not parent:
            return None
        return Transform(stamp_ns, parent, VIRTUAL_FRAME, camera.camera_from_lidar)
