"""A headless Chromium, driven by its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_LIMIT_S = 60.0


class Tab:
    """A page that is open, and all that its console said."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while (message := self._receive()).get("id") != self._number:
            pass
        assert "error" not in message, message
        return message["result"]

    def open(self, address: str) -> None:
        """Load a page and wait until all of it is there."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Value of an expression; a promise is awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press a key, as a user would."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text)

    def screenshot(self, path: Path, width: int, height: int) -> None:
        """Write a PNG of the page's upper part."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._socket.recv())
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        return message


@contextmanager
def browser_tab(profile: Path) -> Iterator[Tab]:
    """A tab of a browser that ends with the block; skips the test where there is none."""
    websocket = pytest.importorskip("websocket", reason="pip install websocket-client")
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(_PROGRAMS)} is installed")
    command = [program, "--headless", "--disable-gpu", "--remote-debugging-port=0"]
    command += [f"--user-data-dir={profile}", "--no-first-run", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        command.append("--no-sandbox")  # which refuses to work for root
    process = subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        port = _port(profile / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=_LIMIT_S) as answer:
            target = next(each for each in json.load(answer) if each["type"] == "page")
        socket = websocket.create_connection(
            target["webSocketDebuggerUrl"], timeout=_LIMIT_S, suppress_origin=True
        )
        yield Tab(socket)
        socket.close()
    finally:
        process.terminate()
        try:
            process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that the browser chose, once it has."""
    deadline = time.monotonic() + _LIMIT_S
    while not (file.is_file() and file.read_text().count("\n")):
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < deadline, f"the browser doesn't listen after {_LIMIT_S:g} s"
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])
