"""Images of the node's messages, as views of their memory."""

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import image_message

from kd3d_core.errors import ImageError
from kd3d_core.runtime.rejection import BadImageError
from kd3d_ros import images
from kd3d_ros.images import image_view

Install = Callable[[Any], None]


@pytest.fixture
def install_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts something in the place of the module cv_bridge; None: as if it weren't installed."""
    images._cv_bridge.cache_clear()
    yield lambda module: monkeypatch.setitem(sys.modules, "cv_bridge", module)
    images._cv_bridge.cache_clear()


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
        ("encoding", "bayer_rggb8", "unknown_encoding", "'bayer_rggb8'.*install"),
    ],
)
def test_bad_image(
    field: str, value: Any, kind: str, text: str, install_cv_bridge: Install
) -> None:
    install_cv_bridge(None)
    message = image_message()
    setattr(message, field, value)
    with pytest.raises(BadImageError, match=text) as caught:
        image_view(message)
    assert caught.value.kind == kind
    assert isinstance(caught.value, ImageError)


class StandInBridge:
    """What the conversion needs of cv_bridge, which PyPI doesn't have."""

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> np.ndarray:
        if message.encoding != "mono16":
            raise ValueError("cannot convert")
        assert encoding == "rgb8"
        return np.full((message.height, message.width, 3), 9, np.uint8)


def test_cv_bridge_that_fails_is_not_tried_again(install_cv_bridge: Install) -> None:
    tries: list[str] = []

    def fail() -> None:
        tries.append("CvBridge()")
        raise AttributeError("_ARRAY_API not found")

    install_cv_bridge(SimpleNamespace(CvBridge=fail))
    message = image_message(encoding="bayer_rggb8")
    for _ in range(3):
        with pytest.raises(BadImageError, match="_ARRAY_API not found"):
            image_view(message)
    assert len(tries) == 1


def test_other_encodings_go_through_cv_bridge(install_cv_bridge: Install) -> None:
    install_cv_bridge(SimpleNamespace(CvBridge=StandInBridge))
    message = image_message(random_pixels(4, 6, 2), "mono16")
    view = image_view(message)
    assert view.shape == (4, 6, 3)
    assert (view == 9).all()
    message.encoding = "nonsense"
    with pytest.raises(BadImageError, match="'nonsense' into rgb8"):
        image_view(message)
