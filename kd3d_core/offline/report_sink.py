"""Results as a page of HTML that can be leafed through."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd3d_core.frames import FrameResult
from kd3d_core.offline.sinks import Sink
from kd3d_core.visual.report import DriveFrame, drive_frame, write_report


class ReportSink(Sink):
    """One self-contained page; its latencies are the detector's own stages added up."""

    def __init__(self, path: Path, title: str, facts: Mapping[str, str], rate_hz: float) -> None:
        self._path = path
        self._title = title
        self._facts = facts
        self._rate_hz = rate_hz
        self._frames: list[DriveFrame] = []
        self._warning = ""

    def add(self, result: FrameResult) -> None:
        """Draw the frame; its pictures are kept, compressed, until the page is written."""
        self._warning = f"{result.caveat.text}." if result.caveat else ""
        timings = result.detections.timings
        latency_ms = sum(timings.values()) if timings else None
        self._frames.append(drive_frame(result.frame.name, result.scene, latency_ms))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            write_report(
                self._path,
                self._title,
                self._frames,
                facts=self._facts,
                warning=self._warning,
                rate_hz=self._rate_hz,
                latency="Times of the detector alone, added up over its stages.",
            )
