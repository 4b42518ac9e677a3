"""The pixels of ROS images: the one place that knows how messages lay them out or compress them."""

import io
from typing import Any

import numpy as np
from PIL import Image

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

_COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8")


class PixelsError(ImageError):
    """An image message contradicts itself, is damaged, or has an encoding not in `ENCODINGS`.

    Attributes:
        kind: `zero_size`, `wrong_step`, `short_data`, `unknown_encoding` or `bad_compression`.
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


def decode_compressed(layout: str, data: Any) -> np.ndarray:
    """The pixels of a compressed image message, as `image_transport republish` would give them.

    Args:
        layout: the message's `format`. Drivers write `jpeg` or `png`; image_transport writes
            `<encoding>; <codec> compressed <encoding in the file>`, the last only where it has
            converted the image. Whether it is JPEG or PNG is seen in the data itself.
        data: the message's bytes, as an array or anything else with a buffer.

    Returns:
        `(height, width, 3)` uint8; strides may be negative.

    Raises:
        PixelsError: the data is cut off or no JPEG or PNG, or holds no plain 8-bit image, such as
            depth or a Bayer mosaic.
    """
    encoding, _, rest = (part.strip() for part in layout.partition(";"))
    stored = rest.partition(" compressed ")[2] or encoding
    if rest and stored not in ENCODINGS:
        raise PixelsError(
            "unknown_encoding",
            f"compressed image of encoding {stored!r}, which is none of {', '.join(ENCODINGS)}: "
            "convert it",
        )
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            mode, pixels = image.mode, np.array(image.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds
        # Without Pillow's words, which count bytes: frames are counted by their reason.
        raise PixelsError(
            "bad_compression",
            f"compressed image ({layout}) is cut off, damaged, or neither JPEG nor PNG: check the "
            "camera driver",
        ) from error
    if mode not in ("L", "RGB", "RGBA"):
        raise PixelsError(
            "unknown_encoding",
            f"compressed image ({layout}) has pixels of Pillow's mode {mode}, none of L, RGB, "
            "RGBA: convert it",
        )
    # OpenCV, which image_transport compresses with, takes the first channel for blue. It was red
    # in an image that wasn't converted to BGR before.
    is_swapped = encoding in _COLOR_ENCODINGS and not stored.startswith("bgr")
    return pixels[..., ::-1] if is_swapped and rest else pixels
