"""Which camera took an image of a bag: its CameraInfo and transforms at that time."""

import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagReader
from kd3d_core.data.bag.choice import CameraTopics, topics_of
from kd3d_core.errors import CalibrationError, DataError, listed, shown
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.messages.types import CameraInfo, Message, Transform, Transforms
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.rejection import NotYetError

_HISTORY_NS = 10 * 10**9
_LOOK_AHEAD_NS = 10**9

_log = logging.getLogger(__name__)


class BagCameras:
    """Cameras of a bag's images, asked for in the order of the images; a context manager.

    CameraInfos and `/tf_static` are read at once: whichever comes later in the bag than an image,
    a node would have waited for it. `/tf` is read along with the images, a second ahead of them;
    where it doesn't help, frames that have one and the same pose in all of it are taken for fixed.

    Attributes:
        source: makes the cameras; says which frame an image is in, and what had to be assumed.
        transforms: what the bag has said of its frames so far; the last 10 s of those that move.
    """

    def __init__(
        self,
        path: Path,
        topics: CameraTopics,
        *,
        detector_frame: str = "",
        camera_height: float = 1.65,
        image_is_rectified: bool = True,
    ) -> None:
        """
        Args:
            path: the bag.
            topics: of the camera.
            detector_frame: as for `CameraSource`, as are the next two.
            camera_height: metres.
            image_is_rectified: whether the images are rectified.

        Raises:
            DataError: the bag can't be read.
        """
        self._reader = BagReader(path)
        self._needs_transforms = bool(detector_frame)
        self._warned: set[str] = set()
        infos = [
            (info.stamp_ns or recorded_ns, info)
            for recorded_ns, info in decoded(self._reader, topics.infos)
            if isinstance(info, CameraInfo)
        ]
        self._infos = sorted(infos, key=lambda item: item[0])
        names = topics_of(self._reader, Transforms)
        self._moving_topics = [name for name in names if not name.endswith("tf_static")]
        static = [name for name in names if name.endswith("tf_static")]
        self._static = deque(self._transforms_on(static, None))
        self._moving: Iterator[tuple[int, Transform]] | None = None
        self._next: tuple[int, Transform] | None = None
        self._unmoved: set[str] | None = None
        self.transforms = TransformBuffer(_HISTORY_NS)
        self.source = CameraSource(
            self.transforms,
            detector_frame=detector_frame,
            camera_height=camera_height,
            image_is_rectified=image_is_rectified,
            image_topic=topics.images,
        )

    def __enter__(self) -> "BagCameras":
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def camera(
        self, frame_id: str, width: int, height: int, stamp_ns: int, recorded_ns: int
    ) -> PinholeCamera:
        """The camera that took an image.

        Args:
            frame_id: that the image's header names; may be empty.
            width: of the image in pixels.
            height: of the image in pixels.
            stamp_ns: when the image was taken.
            recorded_ns: when it was recorded.

        Raises:
            RejectedError: as `CameraSource.camera`; a `NotYetError` if the bag doesn't say it.
            DataError: the bag is damaged.
        """
        if self._infos:
            latest = bisect_right(self._infos, stamp_ns, key=lambda item: item[0]) - 1
            _, info = self._infos[max(latest, 0)]
            self.source.set_info(info, info.frame_id)
        while self._static and self._static[0][0] <= recorded_ns:
            self._learn(self._static.popleft()[1], None)
        if self._needs_transforms:
            self._follow(recorded_ns)
        while True:
            try:
                return self.source.camera(frame_id, width, height, stamp_ns)
            except NotYetError:
                if self._static:
                    self._learn(self._static.popleft()[1], None)
                elif self._needs_transforms and self._unmoved is None:
                    self._unmoved = self._fix_unmoved()
                else:
                    raise

    def _follow(self, recorded_ns: int) -> None:
        """Read transforms of moving frames, from some time before an image to some time after."""
        if self._moving is None:
            start_ns = max(recorded_ns - _HISTORY_NS, 0)
            self._moving = self._transforms_on(self._moving_topics, start_ns)
            self._next = next(self._moving, None)
        while self._next is not None and self._next[0] <= recorded_ns + _LOOK_AHEAD_NS:
            at_ns, found = self._next
            if found.child not in (self._unmoved or ()):
                self._learn(found, found.stamp_ns or at_ns)
            self._next = next(self._moving, None)

    def _fix_unmoved(self) -> set[str]:
        """Take frames for fixed that have one pose in all of `/tf`; their names."""
        first: dict[str, Transform] = {}
        moved = set()
        for _, found in self._transforms_on(self._moving_topics, None):
            known = first.setdefault(found.child, found)
            if found.parent != known.parent or not np.array_equal(
                found.parent_from_child, known.parent_from_child
            ):
                moved.add(found.child)
        unmoved = first.keys() - moved
        for child in unmoved:
            self._learn(first[child], None)
        if unmoved:
            what = self._reader.path, listed(sorted(unmoved))
            _log.warning("%s: /tf has one pose only, which is taken for fixed, of %s", *what)
        return set(unmoved)

    def _transforms_on(
        self, topics: list[str], start_ns: int | None
    ) -> Iterator[tuple[int, Transform]]:
        """When transforms were recorded, and the transforms."""
        for recorded_ns, message in decoded(self._reader, *topics, start_ns=start_ns):
            if isinstance(message, Transforms):
                for transform in message.transforms:
                    yield recorded_ns, transform

    def _learn(self, found: Transform, stamp_ns: int | None) -> None:
        try:
            self.transforms.add(found.parent, found.child, found.parent_from_child, stamp_ns)
        except CalibrationError as error:
            if str(error) not in self._warned:
                self._warned.add(str(error))
                _log.warning("%s: TF: %s", self._reader.path, error)


def decoded(
    reader: BagReader, *topics: str, start_ns: int | None = None
) -> Iterator[tuple[int, Message]]:
    """When messages were recorded, and the messages, in that order; warns of damaged ones."""
    for raw in reader.messages(topics, start_ns) if topics else ():
        try:
            yield raw.stamp_ns, reader.decode(raw)
        except DataError as error:
            _log.warning("%s is left out: %s", shown(raw.topic), error)
