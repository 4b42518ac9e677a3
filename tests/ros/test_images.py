"""Images of the node's messages, as views of their memory."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import image_message

from kd3d_core.errors import ImageError
from kd3d_core.runtime.rejection import BadImageError
from kd3d_ros.images import image_view


def random_pixels(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@given(
    st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_image_view(encoding: str, height: int, width: int, padding: int) -> None:
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}[encoding]
    pixels = random_pixels(height, width, channels)
    message = image_message(pixels, encoding, padding=padding)
    view = image_view(message)
    assert view.dtype == np.uint8
    order = {"bgr8": [2, 1, 0], "bgra8": [2, 1, 0], "mono8": [0, 0, 0]}.get(encoding, [0, 1, 2])
    np.testing.assert_array_equal(view, pixels[..., order])
    assert np.shares_memory(view, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize(
    ("field", "value", "kind", "text"),
    [
        ("width", 0, "zero_size", "0 x 48"),
        ("height", 0, "zero_size", "64 x 0"),
        ("step", 64, "wrong_step", "step 64, but 64 pixels of rgb8 are 192 bytes"),
        ("step", 0, "wrong_step", "step 0"),
        ("step", 200, "short_data", "9216 bytes, but step 200 x height 48 are 9600"),
        ("height", 49, "short_data", "incomplete"),
        ("encoding", "", "unknown_encoding", "''"),
        ("encoding", "32FC1", "unknown_encoding", "'32FC1', which is of depth"),
    ],
)
def test_bad_image(field: str, value: Any, kind: str, text: str) -> None:
    message = image_message()
    setattr(message, field, value)
    with pytest.raises(BadImageError, match=text) as caught:
        image_view(message)
    assert caught.value.kind == kind
    assert isinstance(caught.value, ImageError)


@pytest.mark.parametrize("is_bigendian", [False, True])
def test_values_of_16_bits_in_both_orders(is_bigendian: bool) -> None:
    values = np.array([[0, 0x8000, 0xFFFF]], ">u2" if is_bigendian else "<u2")
    message = image_message(values[..., None].view(np.uint8).reshape(1, 3, 2), "mono16")
    message.is_bigendian = int(is_bigendian)
    assert image_view(message)[0, :, 0].tolist() == [0, 128, 255]
