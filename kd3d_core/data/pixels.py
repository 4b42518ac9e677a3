"""The pixels of ROS images: the one place that knows how `sensor_msgs/Image` lays them out."""

from typing import Any

import numpy as np

from kd3d_core.errors import ImageError

ENCODINGS: dict[str, tuple[int, slice]] = {
    "rgb8": (3, slice(0, 3)),
    "bgr8": (3, slice(2, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, slice(0, 1)),
    "8UC1": (1, slice(0, 1)),
    "8UC3": (3, slice(2, None, -1)),  # OpenCV's own order, as cv_bridge takes it
}
"""Bytes per pixel, and which of them are red, green and blue."""


class PixelsError(ImageError):
    """An image message contradicts itself, or has an encoding that isn't in `ENCODINGS`.

    Attributes:
        kind: `zero_size`, `wrong_step`, `short_data` or `unknown_encoding`.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def decode_rgb(height: int, width: int, step: int, encoding: str, data: Any) -> np.ndarray:
    """The pixels of an image message as red, green, blue, without copying them.

    Args:
        height: rows.
        width: columns.
        step: bytes per row.
        encoding: one of `ENCODINGS`.
        data: the message's bytes, as an array or anything else with a buffer.

    Returns:
        `(height, width, 3)` uint8, a view of `data`; strides may be negative, or 0 for grey.

    Raises:
        PixelsError: says what is wrong with the message.
    """
    if height == 0 or width == 0:
        raise PixelsError(
            "zero_size", f"image of {width} x {height} pixels: check the camera driver"
        )
    if encoding not in ENCODINGS:
        raise PixelsError(
            "unknown_encoding",
            f"image encoding {encoding!r} is none of {', '.join(ENCODINGS)}: convert it",
        )
    pixel_size, rgb = ENCODINGS[encoding]
    if step < width * pixel_size:
        raise PixelsError(
            "wrong_step",
            f"image has step {step}, but {width} pixels of {encoding} are {width * pixel_size} "
            "bytes: the camera driver fills step wrongly",
        )
    size = memoryview(data).nbytes
    if size < step * height:
        raise PixelsError(
            "short_data",
            f"image has {size} bytes, but step {step} x height {height} are {step * height}: "
            "the camera driver sends incomplete frames",
        )
    pixels: np.ndarray = np.ndarray(
        (height, width, pixel_size), np.uint8, buffer=data, strides=(step, pixel_size, 1)
    )
    return np.broadcast_to(pixels[..., rgb], (height, width, 3))
