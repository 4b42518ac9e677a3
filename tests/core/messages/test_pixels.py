"""Pixels of image messages, against OpenCV's conversions."""

import array

import cv2
import numpy as np
import pytest

from kd3d_core.messages.pixels import ENCODINGS, PixelsError, decode_compressed, decode_rgb

RNG = np.random.default_rng(0)
TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("kind", [bytes, lambda raw: array.array("B", raw), np.frombuffer])
def test_pixels_are_opencvs(encoding: str, padding: int, kind) -> None:
    channels = ENCODINGS[encoding][0]
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
        ((2, 2, 4, "16UC1"), 8, "unknown_encoding", "'16UC1' is none of rgb8"),
        ((2, 2, 5, "rgb8"), 12, "wrong_step", "step 5, but 2 pixels of rgb8 are 6 bytes"),
        ((2, 2, 6, "rgb8"), 11, "short_data", "11 bytes, but step 6 x height 2 are 12"),
    ],
)
def test_contradictions_are_told(layout, size: int, kind: str, reason: str) -> None:
    with pytest.raises(PixelsError, match=reason) as error:
        decode_rgb(*layout, np.zeros(size, np.uint8))
    assert error.value.kind == kind


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
    assert len(reasons) == 1  # frames are counted by their reason


@pytest.mark.parametrize(
    ("layout", "ending", "dtype", "reason"),
    [
        ("bayer_rggb8; png compressed ", ".png", np.uint8, "'bayer_rggb8', which is none of rgb8"),
        ("16UC1; compressedDepth png", ".png", np.uint16, "'16UC1'"),
        ("mono16; png compressed ", ".png", np.uint16, "'mono16'"),
        ("png", ".png", np.uint16, "mode I;16"),
        ("tiff", ".tiff", np.uint8, "neither JPEG nor PNG"),
    ],
)
def test_compressed_images_of_another_kind(layout: str, ending: str, dtype, reason: str) -> None:
    data = encoded(ending, RNG.integers(0, 256, (8, 8)).astype(dtype))
    with pytest.raises(PixelsError, match=reason):
        decode_compressed(layout, data)
