"""The report of a drive: its frames as pictures, latency, and what was detected.

frames = [
    drive_frame("000010", Scene(image, camera, points, found, truth), latency_ms=52.0),
    ...
]
write_report(Path("report.html"), "Drive", frames, facts={"model": "lite"})
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd3d_core.evaluation.precision import MatchRules, precision_recall
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.bev import BevView
from kd3d_core.visual.frame import Scene, draw_above, draw_image, legend
from kd3d_core.visual.histogram import latency_histogram
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
    write_page,
)
from kd3d_core.visual.scene3d import scene_json

MOST_SHOWN = 300
"""Pictures in a page that browsers still open; of longer drives every n-th is shown."""
_MOST_ROWS = 12
_MOST_LINES = 100


@dataclass(frozen=True, eq=False)
class DriveFrame:
    """One frame of a report; its pictures are compressed already, so that many can be kept.

    `shown` is None for a frame that only counts, `truth` if it has no labels, `latency_ms` (from
    image to result) if it isn't known.
    """

    shown: Frame | None
    found: ObjectBoxes
    truth: ObjectBoxes | None
    latency_ms: float | None


def drive_frame(
    title: str, scene: Scene, latency_ms: float | None = None, counted: ObjectBoxes | None = None
) -> DriveFrame:
    """Draw and compress a frame for `write_report`.

    `counted` are all detections, where the scene shows but some of them.
    """
    found = scene.found if counted is None else counted
    return DriveFrame(Frame(title, (frame_column(scene),)), found, scene.truth, latency_ms)


def frame_column(scene: Scene, heading: str = "") -> Column:
    """Image, scene from above, the same in three dimensions, and a table of detections."""
    summary = _summary(scene.found, scene.truth)
    return Column(
        (
            Picture.encode(draw_image(scene), f"Camera: {summary}"),
            Picture.encode(draw_above(BevView(), scene), f"From above: {summary}"),
        ),
        _detection_table(scene.found),
        heading,
        scene_json(scene),
        scene.notes,
    )


def write_report(
    path: Path,
    title: str,
    frames: Sequence[DriveFrame],
    *,
    lead: str = "",
    facts: Mapping[str, str] | None = None,
    warning: str = "",
    rate_hz: float = 10.0,
    rules: MatchRules = MatchRules(),  # noqa: B008 - frozen
    latency: str = "From an image to its result.",
    notes: Sequence[str] = (),
    left_out: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page as one file that needs no network.

    Args:
        warning: sentence at the top, said loudly.
        rate_hz: frames per second when played.
        rules: rules of precision and recall, where frames have labels.
        latency: sentence on what the latency includes.
        notes: sentences at the end of the page.
        left_out: names of frames that could not be used, and why.
    """
    sections = [_strip_section(frames, rate_hz)] if frames else []
    if left_out:
        sections.append(_left_out_section(left_out))
    labelled = [frame for frame in frames if frame.truth is not None]
    if labelled:
        sections.append(_score_section(labelled, rules))
    sections.append(_count_section(frames))
    latency_ms = [frame.latency_ms for frame in frames if frame.latency_ms is not None]
    if latency_ms:
        sections.append(_latency_section(latency_ms, latency))
    page = Page(title, lead, tuple((facts or {}).items()), tuple(sections), warning, tuple(notes))
    write_page(path, page)


def percent(share: float | None) -> str:
    """A share as text; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _strip_section(frames: Sequence[DriveFrame], rate_hz: float) -> Section:
    names = [name for frame in frames for name in frame.found.names]
    has_truth = any(frame.truth is not None for frame in frames)
    shown = tuple(frame.shown for frame in frames if frame.shown is not None)
    strip = Strip(shown, rate_hz * len(shown) / len(frames), legend(names, has_truth))
    text = "" if len(shown) == len(frames) else f"{len(shown)} of {len(frames)} frames are shown."
    return Section("Frames", (strip,), text)


def _left_out_section(left_out: Sequence[tuple[str, str]]) -> Section:
    lines = [f"{name}: {reason}" for name, reason in left_out[:_MOST_LINES]]
    if len(left_out) > len(lines):
        lines.append(f"and {len(left_out) - len(lines)} more")
    return Section("Frames left out", (Lines(tuple(lines)),))


def _score_section(labelled: Sequence[DriveFrame], rules: MatchRules) -> Section:
    truth = [frame.truth for frame in labelled if frame.truth is not None]
    scores = precision_recall(truth, [frame.found for frame in labelled], rules)
    rows = tuple(
        (
            name,
            percent(score.precision),
            percent(score.recall),
            percent(score.near_recall),
            str(score.labels),
            str(score.found),
            str(score.labels - score.found),
            str(score.wrong),
        )
        for name, score in scores.items()
    )
    near = f"recall within {rules.near_m:g} m"
    columns = ("class", "precision", "recall", near, "labels", "found", "missed", "wrong")
    left_out = f"those with a score below {rules.min_score:g} are left out"
    text = (
        f"Of the {len(labelled)} processed frames that have labels. A detection is right if it "
        f"overlaps a label of its class by more than {rules.min_iou:g} (intersection over union, "
        f"from above); {left_out if rules.min_score else 'all that were given out count'}. Every "
        "label counts, however far or hidden."
    )
    return Section("Precision and recall", (Table(columns, rows),), text)


def _count_section(frames: Sequence[DriveFrame]) -> Section:
    found = Counter(name for frame in frames for name in frame.found.names)
    labels = Counter(name for frame in frames if frame.truth for name in frame.truth.names)
    has_labels = any(frame.truth is not None for frame in frames)
    rows = tuple(
        (name, str(found[name]), f"{found[name] / len(frames):.1f}")
        + ((str(labels[name]),) if has_labels else ())
        for name in sorted(found | labels)
    )
    columns = ("class", "detections", "per frame", *(("labels",) if has_labels else ()))
    text = f"All detections that the run gave out, whatever their score, in {len(frames)} frames."
    return Section("Counts", (Table(columns, rows),) if rows else (), text)


def _latency_section(latency_ms: Sequence[float], text: str) -> Section:
    median, tail = np.percentile(latency_ms, (50, 95))
    alt = (
        f"Histogram of the latency of {len(latency_ms)} frames: median {median:.0f} ms, "
        f"95th percentile {tail:.0f} ms."
    )
    parts: tuple[Part, ...] = (Drawing(latency_histogram(latency_ms), alt),)
    return Section("Latency", parts, text)


def _detection_table(found: ObjectBoxes) -> Table:
    order = np.argsort(-found.scores, kind="stable")
    shown = order[:_MOST_ROWS].tolist()
    rows = tuple(
        (
            found.names[index],
            f"{found.scores[index]:.2f}",
            f"{np.hypot(*found.boxes[index, :2]):.1f} m",
        )
        for index in shown
    )
    caption = f"{len(order)} detections" if len(order) != 1 else "1 detection"
    if len(order) > len(shown):
        caption += f", the best {len(shown)}"
    return Table(("class", "score", "distance"), rows, caption)


def _summary(found: ObjectBoxes, truth: ObjectBoxes | None) -> str:
    def listed(names: Sequence[str]) -> str:
        counts = sorted(Counter(names).items())
        return ", ".join(f"{count} {name}" for name, count in counts) or "nothing"

    labels = "" if truth is None else f"; labelled: {listed(truth.names)}"
    return f"detected: {listed(found.names)}{labels}"
