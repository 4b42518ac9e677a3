"""Where results go: text, pictures, bag; see beside it for video, page and Rerun.

Folders are filled file by file, each file whole or not there; what is one file (or one bag) gets
its name when it is complete.
"""

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol

import cv2
import numpy as np

from kd3d_core.data.bag import LATCHED, BagWriter
from kd3d_core.data.cdr import header_block
from kd3d_core.data.kitti import box_labels
from kd3d_core.data.messages import PointCloud, Transform, Transforms
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.offline.frames import FrameResult
from kd3d_core.visual.markers import MARKERS_TYPE, markers_message

POINTS_TOPIC = "/kd3d_detector/points"
DETECTIONS_TOPIC = "/kd3d_detector/detections"
MARKERS_TOPIC = "/kd3d_detector/markers"
_TF_TOPIC = "/tf_static"


class Sink(Protocol):
    """A context manager that takes results one by one; `DataError` where it can't write."""

    def __enter__(self) -> object: ...

    def add(self, result: FrameResult) -> None:
        """Take the result of the next frame."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None: ...


class FolderSink:
    """Base of sinks that write a file per frame and have nothing to finish.

    A folder holds one run: files of earlier ones go when the first frame is written.
    """

    ending = ""

    def __init__(self, folder: Path, names: Collection[str], overwrite: bool = False) -> None:
        """
        Args:
            folder: made when the first file is written.
            names: of the frames to come.
            overwrite: whether files that have no such name may be removed.

        Raises:
            DataError: there are such files.
        """
        self.folder = folder
        self._old = sorted(folder.glob(f"*{self.ending}"))
        other = [path.name for path in self._old if path.stem not in names]
        if other and not overwrite:
            raise DataError(
                f"{folder} holds {len(other)} {self.ending} files of other frames, the first is "
                f"{other[0]}: give another folder, or --overwrite to remove them"
            )

    def __enter__(self) -> object:
        return self

    def write(self, name: str, data: bytes) -> None:
        """Write the file of a frame."""
        while self._old:
            path = self._old.pop()
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise DataError(f"{path} can't be removed: {error}") from None
        write_whole(self.folder / f"{name}{self.ending}", data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class KittiSink(FolderSink):
    """A text file per frame in KITTI's format, as `kd3d-eval kitti` reads them."""

    ending = ".txt"

    def add(self, result: FrameResult) -> None:
        """Write the boxes that the image shows; the file is empty if there are none."""
        detections = result.detections
        labels = box_labels(
            detections.boxes, detections.scores.tolist(), result.names, result.frame.camera
        )
        self.write(result.frame.name, "".join(f"{label}\n" for label in labels).encode())


class PictureSink(FolderSink):
    """A PNG per frame: the image with boxes, and under it the scene from above."""

    ending = ".png"

    def add(self, result: FrameResult) -> None:
        """Write the picture."""
        encoded, data = cv2.imencode(".png", result.picture[..., ::-1])
        assert encoded, "OpenCV encodes every 8-bit RGB picture"
        self.write(result.frame.name, data.tobytes())


class BagSink:
    """A bag with the messages that the node would have published, on its topics."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        """
        Args:
            path: folder of the bag.
            overwrite: whether it may replace a bag.
        """
        self._path, self._overwrite = path, overwrite
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def __enter__(self) -> object:
        with ExitStack() as stack:
            self._writer = stack.enter_context(BagWriter(self._path, self._overwrite))
            self._writer.add_topic(POINTS_TOPIC, "sensor_msgs/msg/PointCloud2")
            self._writer.add_topic(DETECTIONS_TOPIC, "vision_msgs/msg/Detection3DArray")
            self._writer.add_topic(MARKERS_TOPIC, MARKERS_TYPE)
            self._stack = stack.pop_all()
        return self

    def add(self, result: FrameResult) -> None:
        """Write points, boxes and markers with the image's stamp, and extrinsics that changed."""
        stamp_ns = result.frame.stamp_ns
        if result.frame.extrinsics is not None:
            self._tell_tf(result.frame.extrinsics)
        cloud = PointCloud(stamp_ns, result.frame_id, result.detections.points)
        self._writer.write(POINTS_TOPIC, stamp_ns, cloud)
        self._writer.write(DETECTIONS_TOPIC, stamp_ns, result.found)
        header = header_block(*divmod(stamp_ns, 10**9), result.frame_id)
        markers = markers_message(result.detections, result.class_names, header)
        self._writer.write(MARKERS_TOPIC, stamp_ns, markers)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _tell_tf(self, transform: Transform) -> None:
        frames = transform.parent, transform.child
        known = self._known.get(frames)
        if known is not None and np.array_equal(known, transform.parent_from_child):
            return
        if not self._known:
            self._writer.add_topic(_TF_TOPIC, "tf2_msgs/msg/TFMessage", LATCHED)
        self._known[frames] = transform.parent_from_child
        self._writer.write(_TF_TOPIC, transform.stamp_ns, Transforms((transform,)))
