"""Where results go: text, pictures, bag; see beside it for video, page and Rerun.

Folders are filled file by file, each file whole or not there; what is one file (or one bag) gets
its name when it is complete.
"""

from abc import ABC, abstractmethod
from collections.abc import Container
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kd3d_core.data.bag import BagWriter
from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.data.kitti_bag import CAMERA_FRAME
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.data.labels import labels_text
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.frames import FrameResult
from kd3d_core.messages.types import Transform, Transforms
from kd3d_core.outputs import FRAME_OUTPUTS, STATIC_TRANSFORMS

NODE = "kd3d_detector"
"""Name of the node in whose place bags of results are written."""


class Sink(ABC):
    """A context manager that takes results one by one; `DataError` where it can't write."""

    def __enter__(self) -> object:
        return self

    @abstractmethod
    def add(self, result: FrameResult) -> None:
        """Take the result of the next frame."""

    def leave_out(self, name: str, reason: str) -> None:  # noqa: B027 - most don't mind
        """Hear of a frame that could not be used."""

    @abstractmethod
    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None: ...


class FolderSink(Sink):
    """Base of sinks that write a file per frame and have nothing to finish.

    A folder holds one run: files of earlier ones go when the first frame is written.
    """

    ending = ""

    def __init__(self, folder: Path, names: Container[str], overwrite: bool = False) -> None:
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

    def write(self, name: str, data: bytes) -> None:
        """Write the file of a frame."""
        while self._old:
            path = self._old.pop()
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise DataError(f"{path} can't be removed: {error}") from None
        write_whole(self.folder / f"{name}{self.ending}", data)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Nothing is to be finished."""


class KittiSink(FolderSink):
    """A text file per frame in KITTI's format, as `kd3d-eval kitti` reads them."""

    ending = ".txt"

    def add(self, result: FrameResult) -> None:
        """Write the boxes that the image shows; the file is empty if there are none."""
        detections = result.detections
        labels = box_labels(
            detections.boxes, detections.scores.tolist(), result.names, result.frame.camera
        )
        self.write(result.frame.name, labels_text(labels).encode())


class PictureSink(FolderSink):
    """A PNG per frame: the image with boxes, and under it the scene from above."""

    ending = ".png"

    def add(self, result: FrameResult) -> None:
        """Write the picture."""
        encoded, data = cv2.imencode(".png", result.picture[..., ::-1])
        assert encoded, "OpenCV encodes every 8-bit RGB picture"
        self.write(result.frame.name, data.tobytes())


class BagSink(Sink):
    """A bag with the messages that the node would have published, on its topics.

    Args:
        overwrite: whether it may replace a bag.
        camera_topics: topics for the images, as they were recorded, and their calibration; then
            the bag also says where the camera is, so that a viewer needs no other. None: neither.
    """

    def __init__(
        self, path: Path, overwrite: bool, camera_topics: CameraTopics | None = None
    ) -> None:
        self._path, self._overwrite, self._camera_topics = path, overwrite, camera_topics
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def __enter__(self) -> object:
        with ExitStack() as stack:
            self._writer = stack.enter_context(BagWriter(self._path, self._overwrite))
            for output in FRAME_OUTPUTS:
                self._writer.add_topic(output.topic(NODE), output.ros_type, output.qos)
            self._stack = stack.pop_all()
        return self

    def add(self, result: FrameResult) -> None:
        """Write the results with the image's stamp, and extrinsics that changed."""
        stamp_ns = result.frame.stamp_ns
        if result.frame.extrinsics is not None:
            self._tell_tf(result.frame.extrinsics)
        if self._camera_topics is not None:
            self._write_camera(result, self._camera_topics)
        for output in FRAME_OUTPUTS:
            message = output.encode(result)
            if message is not None:
                self._writer.write(output.topic(NODE), stamp_ns, message)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)

    def _write_camera(self, result: FrameResult, topics: CameraTopics) -> None:
        frame = result.frame
        if not frame.camera_frame:  # which no transform could lead to
            frame = replace(frame, camera_frame=CAMERA_FRAME)
        if result.frame.extrinsics is None:
            pose = frame.camera.lidar_from_camera
            self._tell_tf(Transform(frame.stamp_ns, result.frame_id, frame.camera_frame, pose))
        for topic, message in (
            (topics.infos, frame.camera_info),
            (topics.images, frame.image_message),
        ):
            if topic not in self._writer.counts:
                self._writer.add_topic(topic, message.ros_type)
            self._writer.write(topic, frame.stamp_ns, message)

    def _tell_tf(self, transform: Transform) -> None:
        frames = transform.parent, transform.child
        known = self._known.get(frames)
        if known is not None and np.array_equal(known, transform.parent_from_child):
            return
        output = STATIC_TRANSFORMS
        if not self._known:
            self._writer.add_topic(output.name, output.ros_type, output.qos)
        self._known[frames] = transform.parent_from_child
        self._writer.write(output.name, transform.stamp_ns, Transforms((transform,)))
