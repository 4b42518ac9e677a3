"""The pictures of a run as a video that browsers and phones play."""

import logging
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kd3d_core.errors import DataError
from kd3d_core.frames import FrameResult
from kd3d_core.offline.sinks import Sink
from kd3d_core.offline.video_writers import VideoWriter, open_writer

log = logging.getLogger(__name__)

_MAX_SIDE = 1920
"""Phones don't decode videos of any size."""


class VideoSink(Sink):
    """An MP4 with a picture per frame, all as large as the first."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        self.path = path
        self.rate_hz = rate_hz
        # Two runs may write the same file: the one that ends last leaves its video, whole.
        self._partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part.mp4")
        self._writer: VideoWriter | None = None
        self._first = (0, 0)
        self._size = (0, 0)
        self._count = 0
        self._resized = 0
        self._first_resized = ""

    def add(self, result: FrameResult) -> None:
        """Append the picture; one of another size than the first is scaled to fit into it."""
        picture = result.picture
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None:
            self._first = size
            self._size = _video_size(*size)
            self._writer = self._open()
        if size != self._first:
            self._resized += 1
            self._first_resized = self._first_resized or result.frame.name
        try:
            self._writer.write(letterboxed(picture, *self._size), result.frame.stamp_ns)
        except OSError as failure:
            raise DataError(f"{self.path} can't be written: {failure}") from None
        self._count += 1

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
            if error is None:
                self._check()
                self._partial.replace(self.path)
        except OSError as failure:
            raise DataError(f"{self.path} can't be written: {failure}") from None
        finally:
            self._partial.unlink(missing_ok=True)
        if error is None and self._resized:
            log.warning(
                "%s: %d of %d pictures have another size than the first, which is %d x %d; they "
                "are scaled to fit into it, with black borders; the first of them is %s",
                *(self.path, self._resized, self._count, *self._first, self._first_resized),
            )

    def _open(self) -> VideoWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
            writer = open_writer(self._partial, *self._size, self.rate_hz)
        except (OSError, DataError) as failure:
            with suppress(OSError):
                self._partial.unlink()
            raise DataError(f"{self.path} can't be written: {failure}") from None
        log.info("%s: %s", self.path, writer.codec)
        if writer.codec != "H.264":
            log.info("H.264, which older phones need, takes: pip install av")
        return writer

    def _check(self) -> None:
        """OpenCV says nothing when the disk is full; what can be read back was written."""
        video = cv2.VideoCapture(str(self._partial))
        readable = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        if readable != self._count:
            raise DataError(
                f"{self.path} can't be written: {readable} of {self._count} pictures are in it; "
                "is the disk full?"
            )


def _video_size(width: int, height: int) -> tuple[int, int]:
    """Even width and height, which codecs ask for, of a video of pictures of this size."""
    scale = min(1.0, _MAX_SIDE / max(width, height))
    return max(round(width * scale) // 2 * 2, 2), max(round(height * scale) // 2 * 2, 2)


def letterboxed(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """`(height, width, 3)`: the picture scaled to fit, in the middle, and black around it."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner_width = min(round(picture.shape[1] * scale), width)
    inner_height = min(round(picture.shape[0] * scale), height)
    filtering = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = cv2.resize(
        picture, (inner_width, inner_height), interpolation=filtering
    )
    return canvas
