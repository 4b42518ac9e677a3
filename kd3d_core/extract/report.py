"""The report of an extraction: `report.json` says all, and `report.html` is drawn from it.

write_report(report, Path("data/site"))
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.config import plain
from kd3d_core.data.calibration_check import common_findings
from kd3d_core.extract.edges import TURN_DEG, compare_turns
from kd3d_core.extract.summary import (
    REPORT_NAMES,
    CameraReport,
    ExtractReport,
    FrameReport,
    Look,
    RecordingReport,
    Tally,
)
from kd3d_core.files import write_json
from kd3d_core.visual.extraction_page import extraction_page
from kd3d_core.visual.histogram import histogram_bins
from kd3d_core.visual.page import Frame, write_page


def write_report(report: ExtractReport, folder: Path) -> None:
    """Write both files into a folder; `DataError` if they can't be."""
    values = report_values(report)
    pictures = [
        [_pictures(camera.looks) for camera in recording.cameras] for recording in report.recordings
    ]
    write_json(folder / REPORT_NAMES[0], values)
    write_page(folder / REPORT_NAMES[1], extraction_page(values, pictures))


def report_values(report: ExtractReport) -> dict[str, Any]:
    """All that the report says, as JSON has it; stamps in nanoseconds, sizes in bytes."""
    recordings = [_recording(each) for each in report.recordings]
    return {
        "version": report.version,
        "extracted": report.extracted,
        "settings": plain(dict(report.settings)),
        "frames": sum(
            camera["frames"] for recording in recordings for camera in recording["cameras"]
        ),
        "size_bytes": report.size_bytes,
        "warnings": [text for recording in recordings for text in _warnings(recording)],
        "recordings": recordings,
    }


def _recording(recording: RecordingReport) -> dict[str, Any]:
    return {
        "path": recording.path,
        "start_ns": recording.start_ns,
        "end_ns": recording.end_ns,
        "stopped": recording.stopped,
        "doubts": list(recording.doubts),
        "topics": [plain(asdict(topic)) for topic in recording.topics],
        "others": {name: _tally(tally) for name, tally in recording.others.items()},
        "cameras": [_camera(camera) for camera in recording.cameras],
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "used": tally.used,
        "skipped": dict(tally.skipped),
        "rejected": dict(tally.rejected),
    }


def _camera(camera: CameraReport) -> dict[str, Any]:
    frames = camera.frames
    limit_s = camera.max_offset_s
    scanned = [frame for frame in frames if frame.points]
    return {
        "name": camera.camera.name,
        "topics": asdict(camera.camera.topics),
        "tallies": {name: _tally(tally) for name, tally in camera.tallies.items()},
        "frames": len(frames),
        "max_offset_s": limit_s,
        "offset_s": (
            None
            if limit_s is None
            else _spread([frame.offset_s for frame in frames], (-limit_s, limit_s))
        ),
        "points": _spread([frame.points for frame in scanned]),
        "dropped_points": dict(_sum(frame.dropped for frame in frames)),
        "in_image": _spread([frame.in_image for frame in frames if frame.in_image is not None]),
        "motion": dict(_counted(frames)),
        "labels": sum(frame.labels for frame in frames),
        "size_bytes": sum(frame.size_bytes for frame in frames),
        "focal_px": camera.focal_px,
        "camera_height_m": camera.camera_height_m,
        "doubts": list(camera.doubts),
        "calibration": _calibration(camera.looks) if limit_s is not None else None,
        "samples": [look.name for look in camera.looks],
    }


def _counted(frames: Sequence[FrameReport]) -> Counter[str]:
    """What was done about the LiDAR's motion: to how many sweeps."""
    return Counter(frame.motion or "left as measured" for frame in frames if frame.points)


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return total


def _spread(
    values: Sequence[float], reach: tuple[float, float] | None = None
) -> dict[str, Any] | None:
    """Where values lie; None where there are none.

    `p95` is of their absolute values, `reach` what their histogram shows at least.
    """
    if not values:
        return None
    least, most = float(min(values)), float(max(values))
    reach = reach or (least, most)
    shown = min(reach[0], least), max(reach[1], most)
    counts, edges = np.histogram(values, histogram_bins(len(values)), shown)
    return {
        "median": float(np.median(values)),
        "p95": float(np.percentile(np.abs(values), 95)),
        "least": least,
        "most": most,
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def _calibration(looks: Sequence[Look]) -> dict[str, Any]:
    """How well LiDAR and images fit in some frames; `edges` is None where there are too few."""
    names = [look.name for look in looks]
    texts = common_findings([look.findings for look in looks], names)
    scores = compare_turns(look.edge_scores for look in looks)
    if scores is None:
        return {"edges": None, "findings": texts}
    if turn := scores.best_turn:
        texts.append(
            f"turning the camera by {turn[0].strip('+')}{TURN_DEG:g}° about its axis {turn[1]} "
            f"improves the score of edges by {scores.changes[turn]:.0%}: check the calibration"
        )
    return {"edges": {**asdict(scores), "turn_deg": TURN_DEG}, "findings": texts}


def _warnings(recording: Mapping[str, Any]) -> list[str]:
    """What should be looked at before the frames are used."""
    path, stopped = recording["path"], recording["stopped"]
    warnings = [f"Reading stopped: {stopped}"] if stopped else []
    for camera in recording["cameras"]:
        for text in (camera["calibration"] or {}).get("findings", ()):
            warnings.append(f"{path}, {camera['topics']['images']}: {text}")
    return warnings


def _pictures(looks: Sequence[Look]) -> list[Frame]:
    return [look.picture for look in looks if look.picture is not None]
