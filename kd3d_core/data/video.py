"""Videos, webcams and streams: frames with the time of each.

OpenCV reads all of them through FFmpeg and Video4Linux. It turns frames as the container says.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from kd3d_core.errors import DataError

_log = logging.getLogger(__name__)

VIDEO_ENDINGS = (
    ".mp4", ".mkv", ".mov", ".avi", ".m4v", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".3gp",
)  # fmt: skip
_ADDRESS = re.compile(r"(rtsps?|rtmps?|https?|udp|tcp|srt)://", re.IGNORECASE)
_DEVICE = re.compile(r"(?:/dev/video)?(\d+)")
_OPEN_LIMIT_MS, _READ_LIMIT_MS = 10_000, 10_000
_LEAST_RATE_HZ, _MOST_RATE_HZ, _USUAL_RATE_HZ = 0.1, 1000.0, 30.0
_SQUARE = 0.01
_TRIES = 100  # to find the next frame behind damage
# A container may promise a little more than there is: sound that lasts longer, a rounded duration.
_CUT_OFF_S, _CUT_OFF_SHARE = 0.3, 0.02


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame: its number from 0, `(H, W, 3)` uint8 RGB, and its time in nanoseconds.

    The time is since the video's beginning, of a camera or stream since 1970.
    """

    number: int
    image: np.ndarray
    stamp_ns: int


def is_live(word: str) -> bool:
    """Whether a word of a command line is a camera or an address and no file.

    >>> [is_live(word) for word in ("0", "/dev/video2", "rtsp://10.0.0.5/cam", "drive.mp4")]
    [True, True, True, False]
    """
    return bool(_ADDRESS.match(word) or _DEVICE.fullmatch(word)) and not Path(word).is_file()


def public_name(word: str) -> str:
    """An input as logs and pages may show it: without the user and password of an address.

    >>> public_name("rtsp://me:secret@10.0.0.5:554/cam?token=1")
    'rtsp://10.0.0.5:554/cam'
    """
    if not _ADDRESS.match(word):
        return word
    scheme, rest = word.split("://", 1)
    host, slash, place = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{place.partition('?')[0]}"


class Video:
    """An open video, camera or stream; a context manager.

    Attributes:
        name: for people.
        width: of its frames, upright, pixels.
        height: of its frames, upright, pixels.
        rate_hz: frames per second that it says it has.
        seconds: how long it says it is; 0 if it has no end.
    """

    def __init__(self, word: str) -> None:
        """Open a file, a camera by number or device, or an address; `DataError` if it can't be."""
        self.name = public_name(word)
        self._capture = _open(word)
        if not self._capture.isOpened():
            raise DataError(f"{self.name} can't be opened: {_why_not(word)}")
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.rate_hz = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.seconds = 0.0
        if not _LEAST_RATE_HZ <= self.rate_hz <= _MOST_RATE_HZ:
            self.rate_hz = _USUAL_RATE_HZ
        elif count > 0:
            self.seconds = count / self.rate_hz
        if self.width <= 0 or self.height <= 0:
            self._capture.release()
            raise DataError(f"{self.name} can't be read: it has no picture of any size")

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._capture.release()

    @property
    def approximate_count(self) -> int:
        """How many frames it should have; containers without an index know their duration only."""
        return round(self.seconds * self.rate_hz)

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel by its height; 1 in nearly all videos."""
        across, down = (
            self._capture.get(each) for each in (cv2.CAP_PROP_SAR_NUM, cv2.CAP_PROP_SAR_DEN)
        )
        aspect = across / down if across > 0 and down > 0 else 1.0
        return 1.0 if abs(aspect - 1) < _SQUARE else aspect

    def frames(self, wanted: slice = slice(None)) -> Iterator[VideoFrame]:
        """The frames with these numbers, once.

        Raises:
            DataError: at the end of a video that is damaged, or shorter than it says.
        """
        start, stop, step = wanted.start or 0, wanted.stop, wanted.step or 1
        number, last_s, failures, damaged_s = 0, -1.0, 0, None
        while failures < _TRIES and (stop is None or number < stop):
            stamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3 if self._capture.grab() else -1
            # After damage FFmpeg may go on with frames of before.
            was_damaged = failures > 0 or damaged_s is not None
            if stamp_s < 0 or (was_damaged and stamp_s <= last_s):
                failures += 1
                continue
            if failures and damaged_s is None:
                damaged_s = last_s
            last_s, failures = stamp_s, 0
            if number >= start and (number - start) % step == 0:
                image = self._capture.retrieve()[1]
                yield VideoFrame(number, _rgb(image), round(stamp_s * 1e9))
            number += 1
        if damaged_s is not None:
            raise DataError(
                f"{self.name} is damaged {max(damaged_s, 0):.1f} s after its beginning: {number} "
                "frames can be read"
            )
        ends_s = last_s + 1 / self.rate_hz
        missing_s = self.seconds - ends_s if failures else 0.0
        if missing_s > max(_CUT_OFF_S, _CUT_OFF_SHARE * self.seconds):
            raise DataError(
                f"{self.name} can be read up to {ends_s:.1f} s ({number} frames), and says it has "
                f"{self.seconds:.1f} s: it is cut off or damaged"
            )
        if missing_s > _CUT_OFF_S:
            _log.warning(
                "%s says it has %.1f s, and what can be read (%d frames) makes %.1f s: frames are "
                "damaged, or its sound lasts longer",
                *(self.name, self.seconds, number, ends_s),
            )

    def newest_frames(self) -> Iterator[VideoFrame]:
        """Of a camera or stream always the frame that is newest when it is asked for.

        What came while nobody asked is left out: numbers have gaps. Ends where the stream does.
        """
        newest = _Newest(self._capture)
        try:
            while (frame := newest.take()) is not None:
                yield frame
        finally:
            newest.stop()


class _Newest:
    """A thread that reads all frames and keeps the last: buffers would make it older and older."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._frame: VideoFrame | None = None
        self._ended = self._stopping = False
        self._thread = threading.Thread(target=self._read, name="video", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        number = 0
        while not self._stopping:
            done, image = self._capture.read()
            with self._changed:
                if done:
                    self._frame = VideoFrame(number, _rgb(image), time.time_ns())
                self._ended = not done
                self._changed.notify()
            if not done:
                return
            number += 1

    def take(self) -> VideoFrame | None:
        """The newest frame that wasn't taken yet; waits for one. None at the end."""
        with self._changed:
            # In steps: a wait without a limit would not hear of Ctrl-C on every system.
            while self._frame is None and not self._ended:
                self._changed.wait(0.5)
            frame, self._frame = self._frame, None
        return frame

    def stop(self) -> None:
        """End the thread; the capture may be released then."""
        self._stopping = True
        self._thread.join()


def _rgb(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _open(word: str) -> cv2.VideoCapture:
    # What FFmpeg and OpenCV print about what they can't read is said in one line by us.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if not is_live(word):
            return cv2.VideoCapture(str(word), cv2.CAP_FFMPEG)
        if device := _DEVICE.fullmatch(word):
            return cv2.VideoCapture(int(device[1]), cv2.CAP_V4L2)
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_LIMIT_MS]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_LIMIT_MS]
        return cv2.VideoCapture(word, cv2.CAP_FFMPEG, limits)
    finally:
        cv2.utils.logging.setLogLevel(level)


def _why_not(word: str) -> str:
    if device := _DEVICE.fullmatch(word):
        path = Path(f"/dev/video{device[1]}")
        if not path.exists():
            return f"there is no camera {path}"
        return f"is {path} a camera, may you read it (group video), and does nobody else use it?"
    if is_live(word):
        return f"nothing that can be read came from there within {_OPEN_LIMIT_MS / 1e3:g} s"
    if not Path(word).stat().st_size:
        return "it is empty"
    return (
        "no video that FFmpeg knows, or cut off: MP4 and MOV keep at their end what is needed to "
        "read them"
    )
