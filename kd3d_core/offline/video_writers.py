"""Encoders of MP4 files: H.264 where PyAV is installed, else what OpenCV can.

H.264 with `yuv420p` plays everywhere. OpenCV's wheel has VP9 only, which browsers play, and phones
but older iPhones.
"""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from kd3d_core.errors import DataError

_H264_ENCODERS = ("libx264", "libopenh264")
_OPENCV_CODECS = {"avc1": "H.264", "vp09": "VP9"}
"""H.264, which OpenCV's wheel can't encode but a distribution's OpenCV may; VP9, which it can."""
_TICKS_PER_S = 90_000
_LONGEST_STEP_S = 2.0


class VideoWriter(Protocol):
    """Takes pictures, all of one size, one by one; `codec` is its name for people."""

    codec: str

    def write(self, rgb: np.ndarray, stamp_ns: int) -> None:
        """Append `(H, W, 3)` uint8 RGB."""

    def close(self) -> None:
        """Finish the file."""


def open_writer(path: Path, width: int, height: int, rate_hz: float) -> VideoWriter:
    """A writer of an MP4 of even width and height; `DataError` if there is no encoder for it.

    Args:
        path: of the file.
        width: pixels.
        height: pixels.
        rate_hz: frames per second, where stamps don't tell.
    """
    try:
        return H264Writer(path, width, height, rate_hz)
    except ImportError:
        return _opencv_writer(path, width, height, rate_hz)


class H264Writer:
    """H.264 by PyAV, each picture shown for as long as the stamps say.

    Where they go back, stand still or leap by more than two seconds, the rate decides.
    """

    codec = "H.264"

    def __init__(self, path: Path, width: int, height: int, rate_hz: float) -> None:
        """`ImportError` if PyAV isn't installed, or was built without H.264."""
        import av

        name = next((name for name in _H264_ENCODERS if _has_encoder(av, name)), None)
        if name is None:
            raise ImportError("this PyAV encodes no H.264")
        self._frame = av.VideoFrame
        # What players need to begin stands in front, so that pages show it while it loads.
        options = {"movflags": "+faststart"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        rate = Fraction(rate_hz).limit_denominator(1000)
        self._stream: Any = self._container.add_stream(name, rate=rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        if name == "libx264":
            self._stream.options = {"crf": "20", "preset": "veryfast"}
        self._step = round(_TICKS_PER_S / rate_hz)
        self._last: tuple[int, int] | None = None

    def write(self, rgb: np.ndarray, stamp_ns: int) -> None:
        """Append a picture."""
        ticks = 0
        if self._last is not None:
            last_ns, last_ticks = self._last
            step_s = (stamp_ns - last_ns) / 1e9
            usable = 0 < step_s <= _LONGEST_STEP_S
            ticks = last_ticks + (max(round(step_s * _TICKS_PER_S), 1) if usable else self._step)
        self._last = stamp_ns, ticks
        frame = self._frame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        frame.pts, frame.time_base = ticks, Fraction(1, _TICKS_PER_S)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode())
        self._container.close()


class _OpenCvWriter:
    def __init__(self, writer: cv2.VideoWriter, codec: str) -> None:
        self._writer, self.codec = writer, codec

    def write(self, rgb: np.ndarray, stamp_ns: int) -> None:
        self._writer.write(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


def _opencv_writer(path: Path, width: int, height: int, rate_hz: float) -> _OpenCvWriter:
    # What FFmpeg and OpenCV print about a codec that isn't there concerns nobody.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        for fourcc, codec in _OPENCV_CODECS.items():
            code = cv2.VideoWriter.fourcc(*fourcc)
            writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, rate_hz, (width, height))
            if writer.isOpened():
                return _OpenCvWriter(writer, codec)
    finally:
        cv2.utils.logging.setLogLevel(level)
    raise DataError(
        "neither H.264 nor VP9 can be encoded here: pip install av, or write pictures with --png"
    )


def _has_encoder(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except ValueError:  # PyAV's UnknownCodecError
        return False
    return True
