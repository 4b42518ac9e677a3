"""Pixels of image messages, against OpenCV's conversions."""

import array

import cv2
import numpy as np
import pytest

from kd3d_core.data.pixels import ENCODINGS, PixelsError, decode_rgb

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
