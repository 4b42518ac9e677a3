"""`--show`: a page of this machine with the newest picture, its rate and how old it is."""

import logging
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browser_tab
from seeing_detector import SeeingDetector, picture

from kd3d_core.frames import Frame, FrameResult
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.offline.live_sink import LiveSink, Page


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page(0)
    yield page
    page.close()


def next_jpeg(stream) -> np.ndarray:
    """The next picture of a stream of them."""
    length = 0
    while (line := stream.readline().strip()) or not length:
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), cv2.IMREAD_COLOR)


def test_a_stream_shows_what_was_shown_last(page: Page) -> None:
    page.show(np.full((40, 60, 3), (200, 0, 0), np.uint8))
    with urllib.request.urlopen(f"{page.address}/stream", timeout=10) as stream:
        assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        np.testing.assert_allclose(next_jpeg(stream)[20, 30], (0, 0, 200), atol=6)  # B, G, R
        page.show(np.full((40, 60, 3), (0, 200, 0), np.uint8))
        np.testing.assert_allclose(next_jpeg(stream)[20, 30], (0, 200, 0), atol=6)


def test_only_this_machine_sees_it_and_nothing_else_is_there(page: Page) -> None:
    assert page.address.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{page.address}/etc/passwd", timeout=10)


def test_two_runs_have_a_page_each(page: Page) -> None:
    taken = int(page.address.rsplit(":", 1)[1])
    other = Page(taken)
    try:
        assert other.address != page.address
    finally:
        other.close()


def test_a_browser_sees_it(page: Page, tmp_path: Path) -> None:
    page.show(np.full((40, 60, 3), (200, 0, 0), np.uint8))
    with browser_tab(tmp_path) as tab:
        for method in ("Page.enable", "Runtime.enable"):
            tab.call(method)
        tab.call("Page.navigate", url=page.address)
        deadline = time.monotonic() + 20
        while tab.run("document.images[0]?.naturalWidth ?? 0") != 60:
            assert time.monotonic() < deadline
        assert tab.complaints == []


@pytest.mark.parametrize("is_live", [True, False])
def test_pictures_say_rate_and_age(is_live: bool, caplog, monkeypatch) -> None:
    texts: list[str] = []

    def keep(image: np.ndarray, text: str, *rest: object) -> None:
        texts.append(text)

    monkeypatch.setattr("kd3d_core.offline.live_sink.write", keep)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    projection = np.array([[72.0, 0, 63, 0], [0, 72, 22, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, 126, 44, virtual_lidar_from_camera(1.65))
    detector, image = SeeingDetector(), picture(50)
    before = threading.active_count()
    with caplog.at_level(logging.INFO), LiveSink(is_live) as sink:
        assert isinstance(sink, LiveSink)
        for _ in range(3):
            frame = Frame("a", time.time_ns() - 2 * 10**9, image, camera)
            result = FrameResult(frame, detector(image, camera), detector.class_names, "lidar")
            sink.add(result)
    assert "live: http://127.0.0.1:" in caplog.text
    assert texts[0].startswith("0.0 FPS, ")
    assert float(texts[2].split(" FPS")[0]) > 1
    if is_live:
        assert 2000 <= float(texts[2].split("latency ")[1].split(" ms")[0]) < 10_000
    else:
        assert texts[2].endswith(" 5 ms a frame")  # what the detector says it took
    assert threading.active_count() <= before + 1
