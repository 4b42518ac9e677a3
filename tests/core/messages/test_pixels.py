"""Pixels of image messages, against OpenCV's conversions."""

import array

import cv2
import numpy as np
import pytest

from kd3d_core.messages.pixels import ENCODINGS, VIEWS, PixelsError, decode_compressed, decode_rgb

RNG = np.random.default_rng(0)
TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
}


@pytest.mark.parametrize("encoding", VIEWS)
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("kind", [bytes, lambda raw: array.array("B", raw), np.frombuffer])
def test_pixels_are_opencvs(encoding: str, padding: int, kind) -> None:
    channels = VIEWS[encoding][0]
    pixels = RNG.integers(0, 256, (4, 6, channels), np.uint8)
    rows = np.zeros((4, 6 * channels + padding), np.uint8)
    rows[:, : 6 * channels] = pixels.reshape(4, -1)
    raw = rows.tobytes()
    data = np.frombuffer(raw, np.uint8) if kind is np.frombuffer else kind(raw)
    found = decode_rgb(4, 6, rows.shape[1], encoding, data)
    expected = pixels if encoding == "rgb8" else cv2.cvtColor(pixels, TO_RGB[encoding])
    np.testing.assert_array_equal(found, expected)
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("layout", "size", "kind", "reason"),
    [
        ((0, 2, 6, "rgb8"), 0, "zero_size", "2 x 0 pixels"),
        ((2, 0, 0, "rgb8"), 0, "zero_size", "0 x 2 pixels"),
        ((2, 2, 4, "16UC1"), 8, "unknown_encoding", "'16UC1', which is of depth, is none of rgb8"),
        ((2, 2, 4, "a" * 10**6), 8, "unknown_encoding", "'aaaaa.*…' is none of"),
        ((3, 2, 2, "nv12"), 12, "odd_size", "2 x 3 pixels of nv12, which come 2 x 2 at a time"),
        ((2, 2, 3, "yuyv"), 12, "wrong_step", "2 pixels of yuyv are 4 bytes"),
        ((2, 2, 2, "mono16"), 12, "wrong_step", "2 pixels of mono16 are 4 bytes"),
        ((2, 2, 2, "nv12"), 5, "short_data", "5 bytes, but step 2 x height 3 are 6"),
        ((2, 2, 4, "mono16"), 8, "unusable_pixels", "mono16: the picture has 16 bits but no value"),
        ((2, 2, 5, "rgb8"), 12, "wrong_step", "step 5, but 2 pixels of rgb8 are 6 bytes"),
        ((2, 2, 6, "rgb8"), 11, "short_data", "11 bytes, but step 6 x height 2 are 12"),
    ],
)
def test_contradictions_are_told(layout, size: int, kind: str, reason: str) -> None:
    with pytest.raises(PixelsError, match=reason) as error:
        decode_rgb(*layout, np.zeros(size, np.uint8))
    assert error.value.kind == kind
    assert len(str(error.value)) < 500


def message(pixels: np.ndarray, padding: int) -> tuple[int, bytes]:
    """Step and data of rows of values, padded."""
    raw = pixels.reshape(len(pixels), -1).view(np.uint8)
    rows = np.zeros((len(raw), raw.shape[1] + padding), np.uint8)
    rows[:, : raw.shape[1]] = raw
    return rows.shape[1], rows.tobytes()


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("encoding", "channels", "rgb"),
    [
        ("mono16", 1, [0, 0, 0]),
        ("rgb16", 3, [0, 1, 2]),
        ("bgr16", 3, [2, 1, 0]),
        ("rgba16", 4, [0, 1, 2]),
        ("bgra16", 4, [2, 1, 0]),
    ],
)
def test_16_bits_become_8(encoding: str, channels: int, rgb, order: str, padding: int) -> None:
    values = RNG.integers(0, 65536, (4, 6, channels)).astype(f"{order}u2")
    values[0, 0] = 65535
    step, data = message(values, padding)
    found = decode_rgb(4, 6, step, encoding, data, order == ">")
    expected = cv2.convertScaleAbs(values.astype(np.float64), alpha=255 / 65535)
    expected = expected.reshape(values.shape)
    np.testing.assert_array_equal(found, expected[..., rgb])


SCENE = cv2.resize(RNG.integers(0, 256, (3, 4, 3), np.uint8), (64, 48))
"""Red, green and blue, smooth, so that mosaics and shared colours lose little."""


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("padding", [0, 6])
def test_bayer_mosaics(pattern: str, bits: int, padding: int) -> None:
    mosaic = np.empty(SCENE.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = SCENE[row::2, column::2, "rgb".index(color)]
    values = mosaic if bits == 8 else mosaic.astype("<u2") * 257
    step, data = message(values, padding)
    found = decode_rgb(48, 64, step, f"bayer_{pattern}{bits}", data)
    inside = np.s_[2:-2, 2:-2]
    assert np.abs(found[inside].astype(int) - SCENE[inside]).max() < 12
    # What image_transport makes of it, which keeps the mosaic.
    again = decode_compressed(f"bayer_{pattern}8; png compressed ", encoded(".png", mosaic))
    np.testing.assert_array_equal(again, found)


def to_yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U and V of BT.601, with Y from 16 to 235, by its definition."""
    red, green, blue = np.moveaxis(rgb / 255.0, -1, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    u, v = (blue - y) / 1.772, (red - y) / 1.402
    return tuple(
        np.rint(each).astype(np.uint8) for each in (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)
    )


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
def test_yuv(encoding: str, padding: int) -> None:
    y, u, v = to_yuv(SCENE)
    if encoding.startswith("nv"):
        pair = (u, v) if encoding == "nv12" else (v, u)
        colors = np.stack([each[::2, ::2] for each in pair], -1).reshape(24, 64)
        values = np.concatenate([y, colors])
    else:
        colors = np.where(np.arange(64) % 2, np.roll(v, 1, 1), u)
        pair = (colors, y) if encoding in ("yuv422", "uyvy") else (y, colors)
        values = np.stack(pair, -1)
    step, data = message(values, padding)
    found = decode_rgb(48, 64, step, encoding, data)
    assert np.abs(found.astype(int) - SCENE).max() < 25
    assert np.abs(found.astype(int) - SCENE).mean() < 3
    code = {
        "yuv422": cv2.COLOR_YUV2RGB_Y422, "uyvy": cv2.COLOR_YUV2RGB_UYVY,
        "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUYV, "yuyv": cv2.COLOR_YUV2RGB_YUY2,
        "nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21,
    }[encoding]  # fmt: skip
    np.testing.assert_array_equal(found, cv2.cvtColor(values, code))


@pytest.mark.parametrize("encoding", ["yuyv", "uyvy"])
def test_an_odd_row_of_yuv_ends_in_half_a_pair(encoding: str) -> None:
    y, u, v = to_yuv(SCENE)
    colors = np.where(np.arange(64) % 2, np.roll(v, 1, 1), u)
    values = np.stack((colors, y) if encoding == "uyvy" else (y, colors), -1)[:, :63]
    step, data = message(np.ascontiguousarray(values), 0)
    found = decode_rgb(48, 63, step, encoding, data)
    assert np.abs(found.astype(int) - SCENE[:, :63]).max() < 25
    assert decode_rgb(2, 1, 2, encoding, bytes(4)).shape == (2, 1, 3)


@pytest.mark.parametrize("padding", [0, 6])
def test_yuv_of_each_pixel(padding: int) -> None:
    y, u, v = to_yuv(SCENE[:, :63])
    colors = np.stack([u, v], -1).reshape(2 * 48, 63)
    step, data = message(np.concatenate([y, colors]), padding)
    found = decode_rgb(48, 63, step, "nv24", data)
    assert found.shape == (48, 63, 3)
    assert np.abs(found.astype(int) - SCENE[:, :63]).max() < 6  # no colours are shared


def test_all_encodings_are_tried_here() -> None:
    tried = {"mono16", *(f"{order}16" for order in ("rgb", "bgr", "rgba", "bgra")), *VIEWS}
    tried |= {f"bayer_{p}{bits}" for p in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)}
    tried |= {"yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21", "nv24"}
    assert tried == set(ENCODINGS)


# Compressed


def encoded(ending: str, matrix: np.ndarray) -> np.ndarray:
    """A file as image_transport makes it: OpenCV takes the first of three channels for blue."""
    done, data = cv2.imencode(ending, matrix)
    assert done
    return data


@pytest.mark.parametrize(
    "layout", ["png", "bgr8; png compressed bgr8", "rgb8; png compressed bgr8"]
)
def test_png_is_exact(layout: str) -> None:
    rgb = RNG.integers(0, 256, (9, 7, 3), np.uint8)
    found = decode_compressed(layout, encoded(".png", rgb[..., ::-1]))
    np.testing.assert_array_equal(found, rgb)


@pytest.mark.parametrize("layout", ["jpeg", "jpg", "bgr8; jpeg compressed bgr8"])
def test_jpeg_is_opencvs(layout: str) -> None:
    smooth = cv2.resize(RNG.integers(0, 256, (5, 8, 3), np.uint8), (126, 44))
    data = encoded(".jpg", smooth)
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(decode_compressed(layout, data), expected)
    assert np.abs(expected.astype(int) - smooth[..., ::-1]).mean() < 5


def test_images_that_were_not_converted_to_bgr() -> None:
    rgb = RNG.integers(0, 256, (9, 7, 3), np.uint8)
    found = decode_compressed("rgb8; png compressed ", encoded(".png", rgb))
    np.testing.assert_array_equal(found, rgb)


@pytest.mark.parametrize("layout", ["png", "mono8; png compressed ", "mono8; png compressed mono8"])
def test_grey(layout: str) -> None:
    grey = RNG.integers(0, 256, (9, 7), np.uint8)
    found = decode_compressed(layout, encoded(".png", grey))
    np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_data_that_is_cut_off_is_told(ending: str) -> None:
    data = encoded(ending, RNG.integers(0, 256, (16, 24, 3), np.uint8))
    reasons = set()
    for size in range(0, len(data) - 24, 7):  # the last bytes are checksums
        with pytest.raises(PixelsError) as error:
            decode_compressed("bgr8; a compressed bgr8", data[:size])
        assert error.value.kind == "bad_compression"
        reasons.add(str(error.value))
    assert len(reasons) <= 3  # empty, cut off, of no kind: frames are counted by their reason


@pytest.mark.parametrize(
    ("layout", "ending", "dtype", "reason"),
    [
        ("yuyv; png compressed ", ".png", np.uint8, "'yuyv' is none of rgb8"),
        ("16UC1; compressedDepth png", ".png", np.uint16, "'16UC1'"),
        ("png", ".png", np.uint16, "16 bits but no value"),
        ("tiff", ".tiff", np.uint8, "neither PNG nor JPEG"),
    ],
)
def test_compressed_images_of_another_kind(layout: str, ending: str, dtype, reason: str) -> None:
    data = encoded(ending, RNG.integers(0, 256, (8, 8)).astype(dtype))
    with pytest.raises(PixelsError, match=reason):
        decode_compressed(layout, data)
