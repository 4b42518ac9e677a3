"""The page of an extraction, drawn from the values of its `report.json`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kd3d_core.data.label_boxes import label_objects
from kd3d_core.data.labels import Label, usable
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.bev import BevView
from kd3d_core.visual.frame import Scene, draw_above, draw_image
from kd3d_core.visual.histogram import histogram
from kd3d_core.visual.page import (
    Column,
    Drawing,
    Frame,
    Lines,
    Page,
    Part,
    Picture,
    Section,
    Strip,
    Table,
)
from kd3d_core.visual.points import draw_points
from kd3d_core.visual.scene3d import scene_json

_NOTHING = ObjectBoxes(0, "", np.zeros((0, 7), np.float32), (), np.zeros(0))

Values = Mapping[str, Any]


def sample_frame(
    title: str,
    image: np.ndarray,
    camera: PinholeCamera,
    points: np.ndarray | None,
    labels: Sequence[Label] | None,
) -> Frame:
    """A frame in pictures: LiDAR on image, and the scene from above; white boxes are labels.

    Args:
        image: `(H, W, 3)` uint8 RGB, rectified.
        points: `(N, 3+)` in the detector frame; None without LiDAR.
        labels: None where there are none.
    """
    truth = None
    if labels is not None:
        truth = label_objects(usable(labels), camera.lidar_from_camera, 0, "")
    picture = np.ascontiguousarray(image).copy()
    if points is not None:
        draw_points(picture, points, camera)
    words = "LiDAR on image" if points is not None else "image"
    scene = Scene(picture, camera, np.zeros((0, 3)) if points is None else points, _NOTHING, truth)
    pictures = [Picture.encode(draw_image(scene), f"{title}: {words}")]
    turning = ""
    if points is not None:
        turning = scene_json(scene)
        above = draw_above(BevView(), scene)
        pictures.append(Picture.encode(above, f"{title}: the points from above"))
    return Frame(title, (Column(tuple(pictures), scene=turning),))


def extraction_page(values: Values, pictures: Sequence[Sequence[Sequence[Frame]]]) -> Page:
    """The page.

    Args:
        values: of `report.json`.
        pictures: frames of each recording and of each of its cameras.
    """
    sections = []
    for recording, of_cameras in zip(values["recordings"], pictures, strict=True):
        sections.append(_recording_section(recording))
        for camera, frames in zip(recording["cameras"], of_cameras, strict=True):
            sections.append(_camera_section(recording, camera, frames))
    sections.append(_settings_section(values["settings"]))
    lead = "What the recordings hold, and what became of each message."
    if not values["extracted"]:
        lead = "What would be extracted: nothing was written but this report."
    return Page(
        "Extraction" if values["extracted"] else "Check before an extraction",
        lead,
        tuple(_facts(values)),
        sections,
        _warning(values["warnings"]),
        (
            "Offsets are from a scan to its image, positive where the image is later.",
            "The score of edges compares the image's gradients where the LiDAR sees objects end "
            "with those around: 1 is chance. A good calibration gets worse when it is turned, by "
            "2 to 15 % on streets; about an axis on which nothing changes, nothing is known.",
        ),
    )


def _warning(texts: Sequence[str]) -> str:
    """The first warning, and how many more stand in the sections."""
    more = f" (and {len(texts) - 1} more below)" if len(texts) > 1 else ""
    return texts[0] + more if texts else ""


def _facts(values: Values) -> Iterator[tuple[str, str]]:
    recordings = values["recordings"]
    cameras = [camera for recording in recordings for camera in recording["cameras"]]
    yield "frames", f"{values['frames']:,}"
    yield "recordings", str(len(recordings))
    yield "cameras", str(len({camera["name"] for camera in cameras}))
    yield "duration", _duration(sum(_seconds(recording) for recording in recordings))
    if values["extracted"]:
        yield "disk", _size(values["size_bytes"])
    yield "kd3d", values["version"]


def _recording_section(recording: Values) -> Section:
    start = datetime.fromtimestamp(recording["start_ns"] / 1e9, UTC)
    text = f"{_duration(_seconds(recording))} from {start:%Y-%m-%d %H:%M:%S} UTC on."
    tallies = dict(recording["others"])
    for camera in recording["cameras"]:
        for name, tally in camera["tallies"].items():
            tallies[f"{name} ({camera['name']})" if name in tallies else name] = tally
    lines = [f"Reading stopped: {recording['stopped']}"] if recording["stopped"] else []
    lines += [*recording["doubts"], *_jumps(recording["topics"])]
    parts: list[Part] = [Lines(tuple(lines))] if lines else []
    parts.append(_topic_table(recording["topics"]))
    parts.append(_tally_table(tallies))
    return Section(recording["path"], tuple(parts), text)


def _topic_table(topics: Sequence[Values]) -> Table:
    odd = {"zero_stamps": "stamps of 0", "duplicate_stamps": "twice", "jump_count": "jumps"}
    shown = {name: text for name, text in odd.items() if any(topic[name] for topic in topics)}
    rows = [
        (
            topic["name"],
            f"{topic['count']:,}",
            "-" if topic["rate_hz"] is None else f"{topic['rate_hz']:.3g} Hz",
            *(f"{topic[name]:,}" for name in shown),
            topic["type"] or "-",
        )
        for topic in topics
    ]
    return Table(("topic", "messages", "rate", *shown.values(), "type"), tuple(rows), "Topics")


def _tally_table(tallies: Values) -> Table:
    """What became of each message, a line for each topic and reason."""
    rows = []
    for topic, tally in tallies.items():
        if tally["used"] or not (tally["skipped"] or tally["rejected"]):
            rows.append((topic, "used", "", f"{tally['used']:,}"))
        for fate in ("skipped", "rejected"):
            rows += [(topic, fate, reason, f"{n:,}") for reason, n in tally[fate].items()]
    return Table(("topic", "fate", "reason", "messages"), tuple(rows), "Messages")


def _jumps(topics: Sequence[Values]) -> Iterator[str]:
    for topic in topics:
        for jump in topic["jumps"]:
            at = datetime.fromtimestamp(jump["recorded_ns"] / 1e9, UTC)
            yield (
                f"{topic['name']}: the header's clock jumps by {jump['step_s']:+.3f} s at "
                f"{at:%H:%M:%S}"
            )


def _camera_section(recording: Values, camera: Values, frames: Sequence[Frame]) -> Section:
    images = camera["topics"]["images"]
    heading = images if len(recording["cameras"]) > 1 else f"Frames of {images}"
    parts: list[Part] = [Lines(tuple(camera["doubts"]))] if camera["doubts"] else []
    if spreads := tuple(_spread_rows(camera)):
        parts.append(Table(("", "median", "95 %", "least", "most"), spreads))
    parts.append(Table(("", ""), tuple(_number_rows(camera))))
    if camera["calibration"] is not None:
        parts += _calibration_parts(camera["calibration"])
    if camera["offset_s"] is not None:
        parts.append(_drawing(camera["offset_s"], "offset, ms", 1e3))
    if camera["points"] is not None:
        parts.append(_drawing(camera["points"], "points per sweep"))
    if frames:
        parts.append(Strip(tuple(frames), rate_hz=1.0))
    return Section(heading, tuple(parts))


def _spread_rows(camera: Values) -> Iterator[tuple[str, ...]]:
    kinds = {
        "offset_s": ("offset, ms", lambda value: f"{1e3 * value:.1f}"),
        "points": ("points per sweep", lambda value: f"{value:,.0f}"),
        "in_image": ("points in front that fall into the image", lambda value: f"{value:.1%}"),
    }
    for name, (text, write) in kinds.items():
        spread = camera[name]
        if spread is not None:
            yield text, *(write(spread[each]) for each in ("median", "p95", "least", "most"))


def _number_rows(camera: Values) -> Iterator[tuple[str, str]]:
    yield "frames", f"{camera['frames']:,}"
    if camera["max_offset_s"] is not None:
        yield "largest offset allowed", f"{1e3 * camera['max_offset_s']:.1f} ms"
    if camera["labels"]:
        yield "labels", f"{camera['labels']:,}"
    if camera["focal_px"] is not None:
        yield "focal length", f"{camera['focal_px']:.1f} px"
    if camera["camera_height_m"] is not None:
        yield "camera over the ground", f"{camera['camera_height_m']:.2f} m"
    for outcome, count in camera["motion"].items():
        yield f"sweeps: {outcome}", f"{count:,}"
    for reason, count in camera["dropped_points"].items():
        yield f"points left out: {reason}", f"{count:,}"
    if camera["size_bytes"]:
        yield "disk", _size(camera["size_bytes"])


def _calibration_parts(calibration: Values) -> list[Part]:
    edges, lines = calibration["edges"], list(calibration["findings"])
    if edges is None:
        lines.append("There are too few edges to compare LiDAR and images by.")
        return [Lines(tuple(lines))]
    rows = [("as calibrated", f"{edges['score']:.3f}", "")]
    for turn, change in edges["changes"].items():
        mark = ", better" if turn == edges["best_turn"] else ""
        words = f"turned by {edges['turn_deg']:g}° about {turn}"
        rows.append((words, f"{edges['score'] * (1 + change):.3f}", f"{change:+.1%}{mark}"))
    caption = f"Edges of LiDAR and image, {edges['frames']} frames"
    table = Table(("extrinsics", "score", "change"), tuple(rows), caption)
    return [*([Lines(tuple(lines))] if lines else []), table]


def _drawing(spread: Values, label: str, scale: float = 1) -> Drawing:
    bars = spread["histogram"]
    digits = 0 if scale == 1 else 1
    marks = {
        f"{name} {spread[key] * scale:,.{digits}f}": spread[key] * scale
        for name, key in (("median", "median"), ("95 %", "p95"))
    }
    edges = [edge * scale for edge in bars["edges"]]
    svg = histogram(bars["counts"], edges, marks, (label, "frames"))
    return Drawing(svg, f"Histogram of {sum(bars['counts'])} frames by {label}: {', '.join(marks)}")


def _settings_section(settings: Values) -> Section:
    rows = tuple(
        (name, "-" if value in (None, "", []) else str(value)) for name, value in settings.items()
    )
    return Section("Settings", (Table(("setting", "value"), rows),))


def _seconds(recording: Values) -> float:
    return (recording["end_ns"] - recording["start_ns"]) / 1e9


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def _size(size_bytes: int) -> str:
    size, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
