"""Results as they come: in a window where there is a display, else on a page of this machine."""

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import cv2
import numpy as np

from kd3d_core.frames import FrameResult
from kd3d_core.offline.sinks import Sink
from kd3d_core.visual.image import line_width, text_size, write

log = logging.getLogger(__name__)

_PORT = 8088
_RATE_OVER = 30  # frames
_LEAVE_KEYS = (27, ord("q"))
_BOUNDARY = "frame"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kd3d live</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>html,body{margin:0;height:100%;background:#121212}
img{display:block;width:100%;height:100%;object-fit:contain}</style></head>
<body><img src="/stream" alt="What the detector finds, as it finds it"></body></html>
"""


class Screen(Protocol):
    """Shows pictures."""

    def show(self, picture: np.ndarray) -> None:
        """Show `(H, W, 3)` uint8 RGB from now on; `KeyboardInterrupt` if nobody wants to see it."""

    def close(self) -> None:
        """Show nothing any more."""


class LiveSink(Sink):
    """Shows each picture as soon as it is there, with frames per second and latency.

    Args:
        has_latency: whether stamps say how old frames are. Else the detector's own time is shown.
    """

    def __init__(self, has_latency: bool) -> None:
        self._has_latency = has_latency
        self._times: deque[float] = deque(maxlen=_RATE_OVER)
        self._screen: Screen | None = None

    def __enter__(self) -> object:
        self._screen = _Window() if _has_display() else Page()
        return self

    def add(self, result: FrameResult) -> None:
        """Show the picture."""
        assert self._screen is not None
        picture = result.picture.copy()
        self._times.append(time.monotonic())
        if self._has_latency:
            words = f"latency {(time.time_ns() - result.frame.stamp_ns) / 1e6:.0f} ms"
        else:
            words = f"{sum(result.detections.timings.values()):.0f} ms a frame"
        text = f"{self._rate():.1f} FPS, {words}"
        width, _, below = text_size(picture, text)
        gap = line_width(picture, 8)
        place = (picture.shape[1] - width - gap, picture.shape[0] - below - gap)
        write(picture, text, place, (230, 230, 230))
        self._screen.show(picture)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._screen is not None:
            self._screen.close()

    def _rate(self) -> float:
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)


def _has_display() -> bool:
    """Whether a window can be opened; the wheel opencv-python-headless has none."""
    has_screen = sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return has_screen and hasattr(cv2, "currentUIFramework") and bool(cv2.currentUIFramework())


class _Window:
    _NAME = "kd3d (q ends)"

    def __init__(self) -> None:
        cv2.namedWindow(self._NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, picture: np.ndarray) -> None:
        cv2.imshow(self._NAME, picture[..., ::-1])
        key = cv2.waitKey(1) & 0xFF
        if key in _LEAVE_KEYS or cv2.getWindowProperty(self._NAME, cv2.WND_PROP_VISIBLE) < 1:
            raise KeyboardInterrupt

    def close(self) -> None:
        cv2.destroyAllWindows()


class Page:
    """A page with a moving picture (MJPEG), for browsers on this machine alone.

    Attributes:
        address: where it is.
    """

    def __init__(self, port: int = _PORT) -> None:
        self._changed = threading.Condition()
        self._picture: np.ndarray | None = None
        self._number = 0
        self._closed = False
        self._server = _server(port, _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="page", daemon=True).start()
        log.info("live: %s (Ctrl-C ends)", self.address)

    def show(self, picture: np.ndarray) -> None:
        """Show a picture to all who watch; nothing is encoded where nobody does."""
        with self._changed:
            self._picture = picture
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the page; browsers keep the last picture."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def pictures(self) -> Iterator[bytes]:
        """JPEGs, each the newest, for one who watches."""
        seen = 0
        while True:
            with self._changed:
                while self._number == seen and not self._closed:
                    self._changed.wait()
                picture, seen = self._picture, self._number
                if self._closed:
                    return
            assert picture is not None
            yield cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def _server(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:  # somebody else uses the port: any that is free
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)


def _handler(page: Page) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/":
                self._begin("text/html; charset=utf-8")
                self.wfile.write(_PAGE.encode())
            elif self.path == "/stream":
                self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
                self._stream()
            else:
                self.send_error(404)

        def _begin(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()

        def _stream(self) -> None:
            # A browser shows a picture when it sees the boundary behind it.
            boundary = f"\r\n--{_BOUNDARY}\r\n".encode()
            try:
                self.wfile.write(boundary)
                for jpeg in page.pictures():
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + boundary)
            except OSError:
                return  # whoever watched has left

        def log_message(self, *words: object) -> None:
            """Nothing: the run has a log of its own."""

    return Handler
