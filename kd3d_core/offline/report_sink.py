"""Results as a page of HTML that can be leafed through."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd3d_core.frames import FrameResult
from kd3d_core.offline.sinks import Sink
from kd3d_core.visual.report import MOST_SHOWN, DriveFrame, drive_frame, write_report


class ReportSink(Sink):
    """One self-contained page; its latencies are the detector's own stages added up."""

    def __init__(self, path: Path, title: str, facts: Mapping[str, str], rate_hz: float) -> None:
        self._path = path
        self._title = title
        self._facts = facts
        self._rate_hz = rate_hz
        self._frames: list[DriveFrame] = []
        self._every = 1
        self._left_out: list[tuple[str, str]] = []
        self._warnings: dict[str, str] = {}

    def add(self, result: FrameResult) -> None:
        """Draw the frame; its pictures are kept, compressed, until the page is written."""
        if result.caveat:
            self._warnings["model"] = f"{result.caveat.text}."
        if result.frame.doubt:
            self._warnings.setdefault("camera", f"{result.frame.name}: {result.frame.doubt}.")
        timings = result.detections.timings
        latency_ms = sum(timings.values()) if timings else None
        number = len(self._frames)
        if number == MOST_SHOWN * self._every:
            self._every *= 2
            self._frames = [
                frame if index % self._every == 0 else replace(frame, shown=None)
                for index, frame in enumerate(self._frames)
            ]
        if number % self._every == 0:
            name = result.frame.name
            self._frames.append(drive_frame(name, result.scene, latency_ms, result.found))
        else:
            self._frames.append(DriveFrame(None, result.found, result.frame.truth, latency_ms))

    def leave_out(self, name: str, reason: str) -> None:
        """Name the frame on the page."""
        self._left_out.append((name, reason))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            write_report(
                self._path,
                self._title,
                self._frames,
                facts=self._facts,
                warning=" ".join(self._warnings.values()),
                rate_hz=self._rate_hz,
                latency="Times of the detector alone, added up over its stages.",
                left_out=self._left_out,
            )
