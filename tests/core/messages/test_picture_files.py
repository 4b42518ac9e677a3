"""Encoded pictures: what a camera saw in 8 bits of red, green, blue, or a reason in one line."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from kd3d_core.errors import DataError, ImageError
from kd3d_core.messages.pictures import (
    MAX_PIXELS,
    decode_picture,
    grey_from_16_bits,
    picture_size,
    read_picture,
)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def colours() -> np.ndarray:
    """`(12, 16, 3)` uint8 without symmetry."""
    rows, columns = np.mgrid[:12, :16]
    return np.stack([20 * rows, 15 * columns, 255 - 10 * (rows + columns)], -1).astype(np.uint8)


PIXELS = colours()
GREY = PIXELS[..., 1]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int, rows: bytes = b"") -> bytes:
    """A grey PNG whose header says this size, whatever its pixels are."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_pixels_are_those_that_were_encoded() -> None:
    decoded = decode_picture(encoded(Image.fromarray(PIXELS)))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, PIXELS)
    data = np.frombuffer(encoded(Image.fromarray(PIXELS)), np.uint8)  # as messages have it
    np.testing.assert_array_equal(decode_picture(data), PIXELS)
    jpeg = decode_picture(encoded(Image.fromarray(PIXELS), "JPEG", quality=98, subsampling=0))
    assert np.abs(jpeg.astype(int) - PIXELS).max() < 12


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
        (Image.fromarray(GREY).convert("P"), GREY),
        (Image.fromarray(np.dstack([GREY, 0 * GREY])), GREY),
        (Image.fromarray(np.dstack([PIXELS, GREY])), PIXELS),
        (Image.fromarray(PIXELS // 64 * 64).convert("RGB").quantize(256), PIXELS // 64 * 64),
    ],
    ids=["grey", "1 bit", "grey palette", "grey and alpha", "colour and alpha", "palette"],
)
def test_other_pixels_become_colours_and_alpha_is_dropped(
    image: Image.Image, expected: np.ndarray
) -> None:
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, -1)
    np.testing.assert_array_equal(decode_picture(encoded(image)), expected)


@pytest.mark.filterwarnings("error")
def test_transparent_colours_of_palettes_are_kept_without_a_warning() -> None:
    image = Image.fromarray(PIXELS // 64 * 64).quantize(256)
    data = encoded(image, transparency=bytes(range(200)))
    np.testing.assert_array_equal(decode_picture(data), PIXELS // 64 * 64)


def deep(pixels: np.ndarray) -> bytes:
    """16-bit PNG of uint16 grey or RGB."""
    order = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    done, data = cv2.imencode(".png", np.ascontiguousarray(order))
    assert done
    return data.tobytes()


def test_16_bits_become_8_by_their_full_range() -> None:
    for scaled in (GREY.astype(np.uint16) * 257, GREY.astype(np.uint16) << 8):
        grey = decode_picture(deep(scaled))
        assert grey.shape == (12, 16, 3)
        assert np.abs(grey.astype(int) - GREY[..., None]).max() <= 1
    rgb = decode_picture(deep(PIXELS.astype(np.uint16) * 257))
    np.testing.assert_array_equal(rgb, PIXELS)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_pictures_of_fewer_bits_in_16_are_refused(bits: int) -> None:
    for pixels in (GREY, PIXELS):
        few = (pixels.astype(np.uint16) << 8 >> (16 - bits)).astype(np.uint16)
        with pytest.raises(ImageError, match="16 bits but no value above 16383"):
            decode_picture(deep(few))
    with pytest.raises(ImageError, match="depth map"):
        grey_from_16_bits(np.full((2, 2), 16383, np.uint16))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    big = np.kron(PIXELS, np.ones((8, 8, 1), np.uint8))
    stored = {  # what a camera that is turned stores of the upright picture
        1: big,
        2: big[:, ::-1],
        3: big[::-1, ::-1],
        4: big[::-1],
        5: big.transpose(1, 0, 2),
        6: np.rot90(big),
        7: np.rot90(big, 2).transpose(1, 0, 2),
        8: np.rot90(big, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture"
    path.write_bytes(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif))
    upright = read_picture(path)
    assert upright.shape == big.shape
    assert np.abs(upright.astype(int) - big).mean() < 3
    assert picture_size(path) == big.shape[:2]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_note_does_no_harm() -> None:
    data = encoded(Image.fromarray(PIXELS), exif=b"Exif\0\0MM\0*nonsense")
    np.testing.assert_array_equal(decode_picture(data), PIXELS)


def refusal(tmp_path: Path, data: bytes) -> str:
    """What reading and measuring a file say, which is one line with its name."""
    path = tmp_path / "000000.png"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: image cannot be read: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: image cannot be read: ")


def test_what_is_neither_png_nor_jpeg_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr("subprocess.check_call", started)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n%%EOF\n"
    for data, name in (
        (eps, "EPS"),
        (encoded(Image.fromarray(PIXELS), "GIF"), "GIF"),
        (encoded(Image.fromarray(PIXELS), "BMP"), "BMP"),
        (encoded(Image.fromarray(PIXELS), "TIFF"), "TIFF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "AppleDouble"),
        (b"<html>", "neither PNG nor JPEG"),
        (b"", "empty"),
    ):
        assert name in refusal(tmp_path, data)
        with pytest.raises(DataError, match=name):
            picture_size(tmp_path / "000000.png")
    with pytest.raises(DataError, match=r"absent\.png: image cannot be read: No such file"):
        read_picture(tmp_path / "absent.png")


def test_cmyk_is_refused_by_name(tmp_path: Path) -> None:
    assert "CMYK" in refusal(tmp_path, encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"))


@pytest.mark.filterwarnings("error")
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    for width, height in ((20_000, 20_000), (10_000, 9_000), (2**31 - 1, 2**31 - 1), (2**30, 1)):
        message = refusal(tmp_path, png_of_size(width, height))
        assert f"{width} x {height} pixels, more than 89 million" in message
        with pytest.raises(DataError, match=f"{width} x {height}"):
            picture_size(tmp_path / "000000.png")
    jpeg = bytearray(encoded(Image.fromarray(PIXELS), "JPEG"))
    start = jpeg.index(b"\xff\xc0") + 5
    jpeg[start : start + 4] = struct.pack(">HH", 65_000, 65_000)
    assert "65000 x 65000" in refusal(tmp_path, bytes(jpeg))
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cut_or_damaged_files_are_one_line(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    for size in (4, 20, 40, len(whole) // 2, len(whole) - 40):
        assert "damaged" in refusal(tmp_path, whole[:size]) or size == 4
    rng = np.random.default_rng(1)
    for _ in range(200):
        broken = bytearray(whole)
        for place in rng.integers(8, len(whole), 6):
            broken[place] = rng.integers(256)
        with suppress(ImageError):  # and nothing else
            assert decode_picture(bytes(broken)).ndim == 3


SMOOTH = cv2.resize(np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8), (323, 210))


@pytest.mark.parametrize(
    "options",
    [{}, {"subsampling": 0}, {"subsampling": 1}, {"optimize": True}, {"restart_marker_rows": 2}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_some_of_its_pixels_is_refused(
    options: dict[str, object], mode: str
) -> None:
    """Decoders make grey of what is lacking."""
    whole = encoded(Image.fromarray(SMOOTH).convert(mode), "JPEG", **options)
    assert decode_picture(whole + bytes(20)).shape == SMOOTH.shape
    start = whole.rindex(b"\xff\xda") + 20
    rng = np.random.default_rng(3)
    for place in rng.integers(start, len(whole) - 300, 20):
        for damaged in (whole[:place], whole[:place] + b"\xff\xd9"):
            with pytest.raises(ImageError, match="cut off or damaged"):
                decode_picture(damaged)


@pytest.mark.parametrize("value", [0, 127, 128, 255])
def test_a_grey_picture_is_whole(value: int) -> None:
    grey = np.full((50, 70, 3), value, np.uint8)
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        found = decode_picture(encoded(Image.fromarray(grey), "JPEG", **options))
        assert np.abs(found.astype(int) - grey).max() <= 1


def test_most_jpegs_with_a_hole_are_refused() -> None:
    """Not all: what is left may happen to mean as many pixels."""
    whole = encoded(Image.fromarray(SMOOTH), "JPEG")
    refused = 0
    for place in np.random.default_rng(3).integers(700, len(whole) - 300, 40):
        try:
            decode_picture(whole[:place] + whole[place + 250 :])
        except ImageError:
            refused += 1
    assert refused >= 36


def test_a_lost_restart_interval_is_refused() -> None:
    whole = encoded(Image.fromarray(SMOOTH), "JPEG", restart_marker_rows=2)
    first, second = whole.index(b"\xff\xd1"), whole.index(b"\xff\xd2")
    with pytest.raises(ImageError, match="damaged"):
        decode_picture(whole[:first] + whole[second:])


def test_a_changed_byte_of_a_png_is_refused() -> None:
    whole = encoded(Image.fromarray(SMOOTH))
    rng = np.random.default_rng(4)
    for place in rng.integers(8, len(whole), 100):
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.integers(8)
        with pytest.raises(ImageError):
            decode_picture(bytes(broken))
