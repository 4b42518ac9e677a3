"""Encoded pictures, PNG and JPEG: the one place that decodes them, for files and messages alike.

What comes out is what a camera sees, 8 bits of red, green and blue:

- An EXIF orientation is applied: the picture is as upright as a viewer shows it.
- 16 bits become 8 by 65535 -> 255, the full range that PNG defines. A picture that stays below a
  quarter of it is refused: it is one of 10, 12 or 14 bits that nobody scaled, or a depth map.
- Grey, 1 bit and palettes become colours. Alpha is dropped, as it is of `rgba8` messages.
- CMYK, which is for printers, is refused: its colours can't be told without its profile.

Decoders make a picture of much that is damaged. Of a PNG all checksums are tested. A JPEG has none:
one whose coded pixels end early, or that lacks a restart interval, is refused, but changed bytes
that still mean as many pixels can't be told from others; nor can lost details of a progressive one.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from kd3d_core.errors import DataError, ImageError

MAX_PIXELS = 89_478_485
"""Pillow's own limit: larger pictures are taken for decompression bombs."""

_PNG = b"\x89PNG\r\n\x1a\n"
_DECODERS = {_PNG: PngImageFile, b"\xff\xd8\xff": JpegImageFile}
_OTHERS = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WebP",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\0\x05\x16\x07": "AppleDouble, no picture but what macOS keeps of one",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the picture with git lfs pull",
}
_DAMAGED = "the picture is cut off or damaged"
_DIM = 65535 // 4
_TOO_DIM = (
    f"the picture has 16 bits but no value above {_DIM}, a quarter of what fits: it is one of 14 "
    "bits or less, or a depth map: scale it to 16 bits, or save it with 8"
)
_END_OF_IMAGE = b"\xff\xd9"
_MORE = bytes(range(250))  # a 0 first: in coded pixels, 255 is followed by one
_NEARLY = 8  # grey levels: colours of neighbours are mixed in
_EXIF_NOTES = 0x8769  # where the camera's own notes stand
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of that EXIF orientation upright."""


def decode_picture(data: Any) -> np.ndarray:
    """`(H, W, 3)` uint8 RGB of the bytes of a PNG or JPEG; see above for what becomes of others.

    Raises:
        ImageError: neither PNG nor JPEG, cut off, damaged, too large, or of pixels that can't be
            shown rightly. Equal faults have equal words, so that they can be counted.
    """
    data = bytes(data)
    picture = _open(io.BytesIO(data))
    if isinstance(picture, PngImageFile):
        _check_png(data)
    turn = _TURNS.get(_orientation(picture))
    try:
        picture.load()
    except Exception:  # Pillow's decoders raise many kinds
        raise ImageError(_DAMAGED) from None
    if isinstance(picture, JpegImageFile):
        _check_jpeg(data, picture)
    if picture.mode == "CMYK":
        raise ImageError("the picture is CMYK, for printers: save it as RGB")
    picture.info.pop("transparency", None)  # of which a conversion would warn
    upright = picture if turn is None else picture.transpose(turn)
    if upright.mode == "I;16":
        return np.repeat(grey_from_16_bits(np.asarray(upright))[..., None], 3, -1)
    pixels = np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))
    if _has_16_bits(data) and pixels.max() <= _DIM >> 8:
        raise ImageError(_TOO_DIM)
    return pixels


def grey_from_16_bits(values: np.ndarray) -> np.ndarray:
    """uint8 of uint16 grey values of any shape: 65535 becomes 255.

    Raises:
        ImageError: none of the values reaches a quarter of 65535.

    >>> grey_from_16_bits(np.array([0, 256, 32768, 65535], np.uint16))
    array([  0,   1, 128, 255], dtype=uint8)
    """
    if values.max(initial=0) <= _DIM:
        raise ImageError(_TOO_DIM)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def read_picture(path: Path | str) -> np.ndarray:
    """`decode_picture` of a file; a `DataError` names it."""
    with _naming(path):
        return decode_picture(Path(path).read_bytes())


def picture_size(path: Path | str) -> tuple[int, int]:
    """Height and width of the picture that `read_picture` gives, from the file's header alone."""
    with _naming(path), Path(path).open("rb") as file:
        picture = _open(file)
        width, height = picture.size
        return (width, height) if _orientation(picture) >= 5 else (height, width)


def picture_exif(path: Path | str) -> dict[int, Any]:
    """What a camera noted in a picture, by EXIF's numbers; empty if there is nothing, or damaged.

    Strings, integers and `IFDRational`s, as `PIL.ExifTags.Base` lists them.
    """
    with _naming(path), Path(path).open("rb") as file, warnings.catch_warnings():
        picture = _open(file)
        try:
            warnings.simplefilter("ignore")  # of damage
            notes = Image.Image.getexif(picture)
            return {**notes, **notes.get_ifd(_EXIF_NOTES)}
        except Exception:  # Pillow's parser raises many kinds
            return {}


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    try:
        yield
    except (OSError, ImageError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: image cannot be read: {reason}") from None


def _open(file: IO[bytes]) -> ImageFile:
    """The picture with its header read, by the decoder that its first bytes ask for.

    `Image.open` would try others too: Ghostscript for an EPS, whatever it is called.
    """
    start = file.read(32)
    file.seek(0)
    kind = next((kind for magic, kind in _DECODERS.items() if start.startswith(magic)), None)
    if kind is None:
        other = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)
        what = "neither PNG nor JPEG" if other is None else f"neither PNG nor JPEG, but {other}"
        raise ImageError(f"it is {what}" if start else "it is empty")
    try:
        picture = kind(file)
    except Exception:  # Pillow's decoders raise many kinds
        raise ImageError(_DAMAGED) from None
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the picture has {width} x {height} pixels, more than {MAX_PIXELS / 1e6:.0f} million"
        )
    return picture


def _check_png(data: bytes) -> None:
    """`ImageError` if a chunk's checksum is wrong, which Pillow doesn't look at in pixels."""
    view, place = memoryview(data), len(_PNG)
    while place < len(data):
        if place + 12 > len(data):
            raise ImageError(_DAMAGED)
        (size,) = struct.unpack_from(">I", data, place)
        end = place + 8 + size
        if end + 4 > len(data) or view[end : end + 4] != zlib.crc32(view[place + 4 : end]).to_bytes(
            4, "big"
        ):
            raise ImageError(_DAMAGED)
        if view[place + 4 : place + 8] == b"IEND":
            return
        place = end + 4
    raise ImageError(_DAMAGED)


def _check_jpeg(data: bytes, picture: JpegImageFile) -> None:
    """`ImageError` if a JPEG that was decoded lacks pixels at its end, or a restart interval."""
    scan, interval = _first_scan(data)
    end = data.rfind(_END_OF_IMAGE)
    if end < scan:
        raise ImageError(_DAMAGED)
    values = np.frombuffer(data, np.uint8, end - scan, scan)
    marks = values[1:][values[:-1] == 0xFF]
    marks = marks[(marks != 0) & (marks != 0xFF)]
    if ((marks < 0xD0) | (marks > 0xD7)).any():
        return  # several scans
    if interval and not np.array_equal(marks, _restarts(picture, interval)):
        raise ImageError(_DAMAGED)
    # What is lacking at the end is decoded as grey. Then more bytes before the end become pixels.
    last = np.array(picture.getpixel((picture.width - 1, picture.height - 1))).reshape(-1)
    if np.abs(last.astype(int) - 128).max() > _NEARLY:
        return
    longer = JpegImageFile(io.BytesIO(data[:end] + _MORE + data[end:]))
    if not np.array_equal(np.asarray(longer), np.asarray(picture)):
        raise ImageError(_DAMAGED)


def _first_scan(data: bytes) -> tuple[int, int]:
    """Where a JPEG's coded pixels begin, and its restart interval; 0 if it has none."""
    place, interval = 2, 0
    while place + 6 <= len(data) and data[place] == 0xFF:
        mark, size = struct.unpack_from(">xBH", data, place)
        if mark == 0xDD:
            (interval,) = struct.unpack_from(">H", data, place + 4)
        place += 1 if mark == 0xFF else 2 + size
        if mark == 0xDA:
            return place, interval
    raise ImageError(_DAMAGED)


def _restarts(picture: JpegImageFile, interval: int) -> np.ndarray:
    """The restart marks that a whole picture has: between so many units of 8 x 8 to 16 x 16."""
    across, down = (max(layer[axis] for layer in picture.layer) for axis in (1, 2))
    if len(picture.layer) == 1:
        across = down = 1
    units = -(-picture.width // (8 * across)) * -(-picture.height // (8 * down))
    return 0xD0 + np.arange(-(-units // interval) - 1) % 8


def _orientation(picture: Image.Image) -> int:
    """EXIF's number, 1 to 8, as far as it stands before the pixels."""
    try:
        return int(Image.Image.getexif(picture).get(ExifTag.Orientation, 1))
    except Exception:  # a damaged note doesn't make the picture worse
        return 1


def _has_16_bits(data: Any) -> bool:
    return bytes(data[:8]) == _PNG and data[24] == 16
