"""The pixels of ROS images: the one place that knows how messages lay them out or compress them.

Encodings are those of `sensor_msgs/image_encodings.hpp`, and mean what cv_bridge takes them for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd3d_core.errors import ImageError, shown
from kd3d_core.messages.pictures import decode_picture, grey_from_16_bits

VIEWS: dict[str, tuple[int, slice]] = {
    "rgb8": (3, slice(0, 3)),
    "bgr8": (3, slice(2, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, slice(0, 1)),
    "8UC1": (1, slice(0, 1)),
    "8UC3": (3, slice(2, None, -1)),  # OpenCV's own order, as cv_bridge takes it
}
"""Channels of a pixel, and which of them are red, green and blue: read without copying."""

_WIDE: dict[str, tuple[int, slice]] = {
    "rgb16": (3, slice(0, 3)),
    "bgr16": (3, slice(2, None, -1)),
    "rgba16": (4, slice(0, 3)),
    "bgra16": (4, slice(2, None, -1)),
    "mono16": (1, slice(0, 1)),
}

# OpenCV names a mosaic by the second and third pixel of its second row, ROS by its upper left.
_MOSAICS = {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}
_BAYER = {
    f"bayer_{ours}{bits}": (f"COLOR_Bayer{theirs}2RGB", bits // 8)
    for ours, theirs in _MOSAICS.items()
    for bits in (8, 16)
}
_YUV_422 = {
    "yuv422": "COLOR_YUV2RGB_UYVY",
    "uyvy": "COLOR_YUV2RGB_UYVY",
    "yuv422_yuy2": "COLOR_YUV2RGB_YUY2",
    "yuyv": "COLOR_YUV2RGB_YUY2",
}
_YUV_420 = {"nv12": "COLOR_YUV2RGB_NV12", "nv21": "COLOR_YUV2RGB_NV21"}

_YUV_444 = "nv24"

ENCODINGS = (*VIEWS, *_WIDE, *_BAYER, *_YUV_422, *_YUV_420, _YUV_444)
"""All that can be read."""

_DEPTH = ("16UC1", "32FC1")
_COLOR_ENCODINGS = ("rgb8", "bgr8", "rgba8", "bgra8")
_COMPRESSED = ("", *VIEWS, *_WIDE, *_BAYER)


class PixelsError(ImageError):
    """An image message contradicts itself, is damaged, or has an encoding not in `ENCODINGS`.

    Attributes:
        kind: `zero_size`, `odd_size`, `wrong_step`, `short_data`, `unknown_encoding`,
            `unusable_pixels` or `bad_compression`.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def decode_rgb(
    height: int, width: int, step: int, encoding: str, data: Any, is_bigendian: bool = False
) -> np.ndarray:
    """The pixels of an image message as red, green, blue.

    Those of `VIEWS` aren't copied. 16 bits become 8, 65535 becomes 255; Bayer mosaics are
    interpolated bilinearly; YUV is that of BT.601 with values from 16 to 235, as OpenCV has it.

    Args:
        step: bytes per row; of NV12, NV21 and NV24, per row of Y.
        encoding: one of `ENCODINGS`.

    Returns:
        `(height, width, 3)` uint8, perhaps a view of `data`; strides may be negative, or 0 for
        grey.

    Raises:
        PixelsError: says what is wrong with the message.
    """
    if height == 0 or width == 0:
        raise PixelsError(
            "zero_size", f"image of {width} x {height} pixels: check the camera driver"
        )
    layout = _layout(encoding)
    if layout.rows == 1.5 and (width % 2 or height % 2):
        raise PixelsError(
            "odd_size",
            f"image of {width} x {height} pixels of {encoding}, which come 2 x 2 at a time: check "
            "the camera driver",
        )
    if step < width * layout.pixel_bytes:
        raise PixelsError(
            "wrong_step",
            f"image has step {step}, but {width} pixels of {encoding} are "
            f"{width * layout.pixel_bytes} bytes: the camera driver fills step wrongly",
        )
    rows = int(height * layout.rows)
    size = memoryview(data).nbytes
    if size < step * rows:
        raise PixelsError(
            "short_data",
            f"image has {size} bytes, but step {step} x height {rows} are {step * rows}: "
            "the camera driver sends incomplete frames",
        )
    itemsize, channels = layout.itemsize, layout.pixel_bytes // layout.itemsize
    dtype = np.dtype(f"{'>' if is_bigendian else '<'}u{itemsize}")
    strides = (step, layout.pixel_bytes, itemsize)
    pixels: np.ndarray = np.ndarray((rows, width, channels), dtype, buffer=data, strides=strides)
    try:
        return np.broadcast_to(layout.to_rgb(pixels), (height, width, 3))
    except ImageError as error:
        raise PixelsError("unusable_pixels", f"{encoding}: {error}") from None


def spread_bits(encoding: str, values: np.ndarray, bits: int) -> np.ndarray:
    """uint16 values of a camera that has fewer bits, scaled to all 16: its largest becomes 65535.

    Raises:
        PixelsError: a value has more bits.

    >>> spread_bits("mono16", np.array([0, 1, 4095], np.uint16), 12)
    array([    0,    16, 65535], dtype=uint16)
    """
    most = 2**bits - 1
    if values.max(initial=0) > most:
        raise PixelsError(
            "unusable_pixels", f"{encoding}: a value above {most} has more than {bits} bits"
        )
    return (values.astype(np.uint32) * 65535 // most).astype(np.uint16)


def decode_compressed(layout: str, data: Any) -> np.ndarray:
    """The pixels of a compressed image message, as `image_transport republish` would give them.

    Args:
        layout: the message's `format`. Drivers write `jpeg` or `png`; image_transport writes
            `<encoding>; <codec> compressed <encoding in the file>`, the last only where it has
            converted the image. Whether it is JPEG or PNG is seen in the data itself.

    Returns:
        `(height, width, 3)` uint8; strides may be negative.

    Raises:
        PixelsError: the data is cut off or no JPEG or PNG, or holds something else than a picture,
            such as depth.
    """
    encoding, _, rest = (part.strip() for part in layout.partition(";"))
    stored = rest.partition(" compressed ")[2] or encoding
    if rest and stored not in _COMPRESSED:
        raise _unknown(stored)
    try:
        pixels = decode_picture(data)
    except ImageError as error:  # which has no numbers in it: frames are counted by their reason
        raise PixelsError(
            "bad_compression", f"compressed image ({shown(layout)}): {error}"
        ) from None
    if rest and stored in _BAYER:
        return _convert(_BAYER[stored][0], np.ascontiguousarray(pixels[..., :1]))
    # OpenCV, which image_transport compresses with, takes the first channel for blue. It was red
    # in an image that wasn't converted to BGR before.
    is_swapped = encoding in _COLOR_ENCODINGS and not stored.startswith("bgr")
    return pixels[..., ::-1] if is_swapped and rest else pixels


def value_bytes(encoding: str) -> int:
    """Bytes of each value of an image: 1 or 2; `PixelsError` if the encoding can't be read."""
    return _layout(encoding).itemsize


@dataclass(frozen=True)
class _Layout:
    """How an encoding lays out pixels.

    Attributes:
        pixel_bytes: bytes per pixel of a row, or of a row of Y.
        to_rgb: from `(rows, width, channels)` to RGB.
        itemsize: bytes per value.
        rows: rows of bytes per row of pixels; more than 1 where colours follow behind all Y, in
            rows as long as those: half as many, of 2 x 2 pixels each, or twice as many.
    """

    pixel_bytes: int
    to_rgb: Callable[[np.ndarray], np.ndarray]
    itemsize: int = 1
    rows: float = 1


def _layout(encoding: str) -> _Layout:
    if encoding in VIEWS:
        channels, rgb = VIEWS[encoding]
        return _Layout(channels, lambda pixels: pixels[..., rgb])
    if encoding in _WIDE:
        channels, rgb = _WIDE[encoding]
        return _Layout(2 * channels, lambda pixels: grey_from_16_bits(pixels[..., rgb]), 2)
    if encoding in _BAYER:
        code, itemsize = _BAYER[encoding]
        return _Layout(itemsize, lambda pixels: _convert(code, _narrow(pixels)), itemsize)
    if encoding in _YUV_422:
        return _Layout(2, lambda pixels: _from_yuv_422(_YUV_422[encoding], pixels))
    if encoding in _YUV_420:
        return _Layout(1, lambda pixels: _convert(_YUV_420[encoding], pixels), rows=1.5)
    if encoding == _YUV_444:
        return _Layout(1, _from_nv24, rows=3)
    raise _unknown(encoding)


def _unknown(encoding: str) -> PixelsError:
    what = ", which is of depth," if encoding in _DEPTH else ""
    return PixelsError(
        "unknown_encoding",
        f"image encoding {shown(encoding)!r}{what} is none of {', '.join(ENCODINGS)}: convert it",
    )


def _narrow(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype.itemsize == 1 else grey_from_16_bits(pixels)


def _from_yuv_422(code: str, pixels: np.ndarray) -> np.ndarray:
    """Two pixels share U and V; a last one without a partner takes its V from the pair before."""
    width = pixels.shape[1]
    if width % 2:
        pixels = np.concatenate([pixels, pixels[:, -2:-1] if width > 1 else pixels], 1)
    return _convert(code, pixels)[:, :width]


def _from_nv24(pixels: np.ndarray) -> np.ndarray:
    """Y, then U and V of each pixel: as NV12 of a picture twice as large, which OpenCV knows."""
    height, width = len(pixels) // 3, pixels.shape[1]
    large = pixels[:height].repeat(2, 0).repeat(2, 1)
    colors = pixels[height:].reshape(height, 2 * width, 1)
    rgb = _convert("COLOR_YUV2RGB_NV12", np.concatenate([large, colors]))
    return rgb[::2, ::2]


def _convert(code: str, pixels: np.ndarray) -> np.ndarray:
    import cv2  # which reading labels and points doesn't need

    converted: np.ndarray = cv2.cvtColor(np.ascontiguousarray(pixels), getattr(cv2, code))
    return converted
