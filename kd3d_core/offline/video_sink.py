"""The pictures of a run as a video that browsers and phones play."""

import logging
import os
import secrets
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kd3d_core.errors import DataError
from kd3d_core.frames import FrameResult

log = logging.getLogger(__name__)

_CODECS = ("avc1", "vp09")
"""H.264, which OpenCV's wheel can't encode but a distribution's OpenCV may; VP9, which it can."""
_MAX_SIDE = 1920
"""Phones don't decode videos of any size."""


class VideoSink:
    """An MP4 with a picture per frame, all as large as the first."""

    def __init__(self, path: Path, rate_hz: float) -> None:
        self.path = path
        self.rate_hz = rate_hz
        # Two runs may write the same file: the one that ends last leaves its video, whole.
        self._partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part.mp4")
        self._writer: cv2.VideoWriter | None = None
        self._first = (0, 0)
        self._size = (0, 0)
        self._count = 0
        self._resized: list[str] = []

    def __enter__(self) -> object:
        return self

    def add(self, result: FrameResult) -> None:
        """Append the picture; one of another size than the first is scaled to fit into it."""
        picture = result.picture
        size = (picture.shape[1], picture.shape[0])
        if self._writer is None:
            self._first = size
            self._size = _video_size(*size)
            self._writer = self._open()
        if size != self._first:
            self._resized.append(result.frame.name)
        self._writer.write(letterboxed(picture, *self._size)[..., ::-1])
        self._count += 1

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._writer is None:
            return
        self._writer.release()
        try:
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
                *(self.path, len(self._resized), self._count, *self._first, self._resized[0]),
            )

    def _open(self) -> cv2.VideoWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        except OSError as failure:
            raise DataError(f"{self.path} can't be written: {failure}") from None
        # What FFmpeg and OpenCV print about a codec that isn't there concerns nobody.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            for codec in _CODECS:
                code = cv2.VideoWriter.fourcc(*codec)
                writer = cv2.VideoWriter(
                    str(self._partial), cv2.CAP_FFMPEG, code, self.rate_hz, self._size
                )
                if writer.isOpened():
                    return writer
        finally:
            cv2.utils.logging.setLogLevel(level)
        self._partial.unlink(missing_ok=True)
        raise DataError(
            f"{self.path} can't be written: this OpenCV encodes neither H.264 nor VP9; install "
            "the wheel opencv-python-headless, or write pictures with --png"
        )

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
