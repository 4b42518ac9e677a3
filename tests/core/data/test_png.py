"""PNG files, as other decoders read them."""

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from kd3d_core.data.png import png_bytes
from kd3d_core.messages.pictures import decode_picture

SURFACE = np.linspace(0, 255, 90 * 160 * 3).reshape(90, 160, 3).astype(np.uint8)
NOISY = np.random.default_rng(0).normal(SURFACE, 3).clip(0, 255).astype(np.uint8)
IMAGES = {
    "one pixel": np.array([[[1, 2, 3]]], np.uint8),
    "one column": NOISY[:, :1],
    "one row": NOISY[:1],
    "red, green, blue": NOISY,
    "a view of blue, green, red": NOISY[..., ::-1],
    "a cut-out": NOISY[3:50, 7:100],
    "grey as colours": np.broadcast_to(NOISY[..., :1], NOISY.shape),
    "noise": np.random.default_rng(1).integers(0, 256, (31, 47, 3), np.uint8),
}


@pytest.fixture(params=["isal", "zlib"])
def _deflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the library that makes it fast, and in an environment without it."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.usefixtures("_deflate")
@pytest.mark.parametrize("name", IMAGES)
def test_other_decoders_give_the_same_pixels(name: str) -> None:
    image = IMAGES[name]
    data = png_bytes(image)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1], image)
    np.testing.assert_array_equal(decode_picture(data), image)  # which tests all checksums


@pytest.mark.usefixtures("_deflate")
def test_about_as_small_as_opencv_writes_it() -> None:
    _, usual = cv2.imencode(".png", NOISY[..., ::-1])
    assert len(png_bytes(NOISY)) < 1.1 * len(usual)
