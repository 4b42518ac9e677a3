"""What the demo makes of its recording: pictures, a summary and a page to leaf through."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.precision import ClassScore, MatchRules, precision_recall
from kd3d_core.models.card import Caveat, ModelCard
from kd3d_core.visual.frame import Scene, draw_frame
from kd3d_core.visual.report import MOST_SHOWN, DriveFrame, drive_frame, write_report
from kd3d_ros.demo_input import Drive
from kd3d_ros.demo_recording import Results, recorded_frames


def rules_for(card: ModelCard) -> MatchRules:
    """What counts as found: all that the node publishes, if the model has score thresholds."""
    return MatchRules(min_iou=0.5, min_score=0.0 if card.score_thresholds else 0.3, near_m=30.0)


@dataclass(frozen=True)
class Played:
    """What is known of a finished run.

    Attributes:
        drive: what was played.
        model: name or file of the model.
        speed: of playing; 1 is real time.
        sent: when each image was sent, by its header stamp, both in nanoseconds.
        counters: the node's, by name: how many images it received, and what became of them.
        weights: what the summary says of them.
        rules: of precision and recall.
        caveat: what to say beside the answers; None if nothing speaks against them.
    """

    drive: Drive
    model: str
    speed: float
    sent: dict[int, int]
    counters: dict[str, int]
    weights: dict[str, Any]
    rules: MatchRules
    caveat: Caveat | None = None

    def latency_ms(self, stamp_ns: int, results: Results) -> float | None:
        """From sending the image to the record of its boxes; None if it wasn't sent."""
        sent_ns = self.sent.get(stamp_ns)
        return None if sent_ns is None else (results.arrived_ns - sent_ns) / 1e6


def draw(out: Path, results: dict[int, Results], played: Played) -> list[DriveFrame]:
    """Write an annotated picture of each processed frame of the bag `out/input`.

    Returns:
        The frames, for the page.
    """
    folder = out / "frames"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    frames: list[DriveFrame] = []
    doubt = played.caveat.short if played.caveat else ""
    every = 1 + (len(results) - 1) // MOST_SHOWN
    for seconds, frame, result in recorded_frames(out / "input", results):
        title = f"{seconds:.1f} s"
        scene = Scene(
            frame.image, frame.camera, result.points, result.found, frame.truth, doubt,
            played.drive.camera,
        )  # fmt: skip
        picture = draw_frame(scene, title)
        if not cv2.imwrite(str(folder / f"{frame.stamp_ns}.png"), picture[..., ::-1]):
            raise Kd3dError(f"{folder} can't be written: is the disk full?")
        latency_ms = played.latency_ms(frame.stamp_ns, result)
        shown = drive_frame(title, scene, latency_ms)
        frames.append(shown if len(frames) % every == 0 else replace(shown, shown=None))
    return frames


def summarize(frames: Sequence[DriveFrame], played: Played) -> dict[str, Any]:
    """What `summary.json` says.

    Frames that were sent and not lost are those that the node received; it processed, dropped,
    rejected or failed at each. Precision and recall are those of processed frames; labels in others
    don't count as missed. Without labels they are null, as are those of a class without any.
    """
    latency_ms = _latencies(frames)
    counters = played.counters
    names = Counter(name for frame in frames for name in frame.found.names)
    return {
        "model": played.model,
        "drive": played.drive.name,
        "frames_sent": len(played.sent),
        "frames_processed": counters["processed"],
        "frames_dropped": counters["dropped"],
        "frames_rejected": counters["rejected"],
        "frames_failed": counters["failed"],
        "frames_lost": len(played.sent) - counters["received"],
        "latency_ms": {
            "median": round(float(np.median(latency_ms)), 1) if latency_ms else None,
            "p95": round(float(np.percentile(latency_ms, 95)), 1) if latency_ms else None,
        },
        "boxes": dict(sorted(names.items())),
        **_scores(frames, played.rules),
        "weights": played.weights,
    }


def write_page(
    path: Path, frames: Sequence[DriveFrame], played: Played, summary: dict[str, Any]
) -> None:
    """Write the report."""
    warnings = (played.caveat.text if played.caveat else "", played.drive.doubt)
    median = summary["latency_ms"]["median"]
    write_report(
        path,
        f"kd3d: model {played.model} on {played.drive.name}",
        frames,
        lead=(
            f"{len(played.sent)} images, {played.drive.rate_hz:g} per second of the drive, played "
            f"{_pace(played)} over DDS to the detector node; what it published was recorded and "
            "drawn."
        ),
        facts={
            "model": played.model,
            "trained on": played.weights["trained_on"],
            "drive": played.drive.name,
            "images sent": str(summary["frames_sent"]),
            "processed": str(summary["frames_processed"]),
            "dropped": str(summary["frames_dropped"]),
            "rejected": str(summary["frames_rejected"]),
            "failed": str(summary["frames_failed"]),
            "lost": str(summary["frames_lost"]),
            "median latency": "-" if median is None else f"{median:.0f} ms",
        },
        warning=" ".join(f"{text}." for text in warnings if text),
        rate_hz=played.drive.rate_hz,
        rules=played.rules,
        latency="From sending an image to the record of its boxes, each in a process of its own.",
        notes=[
            "The node takes the newest image when it is ready, and drops those that came before. "
            "Rejected ones it could not use, at failed ones it raised an error (node.log says "
            "why), and lost ones never reached it. Only processed frames are shown and judged: in "
            "others nothing counts as found or as missed.",
            *filter(None, (*played.drive.camera, played.drive.note)),
        ],
    )


def _pace(played: Played) -> str:
    return "in real time" if played.speed == 1 else f"at {played.speed:g} times real time"


def _latencies(frames: Sequence[DriveFrame]) -> list[float]:
    return [frame.latency_ms for frame in frames if frame.latency_ms is not None]


def _scores(frames: Sequence[DriveFrame], rules: MatchRules) -> dict[str, Any]:
    """`precision`, `recall` and `recall_30m` by class, and how they were judged."""
    pairs = [(frame.truth, frame.found) for frame in frames if frame.truth is not None]
    if not pairs:
        return {"precision": None, "recall": None, "recall_30m": None, "judged": None}
    truth, found = zip(*pairs, strict=True)
    scores = precision_recall(truth, found, rules)

    def by_class(value: Callable[[ClassScore], float | None]) -> dict[str, float | None]:
        return {name: _rounded(value(score)) for name, score in scores.items()}

    return {
        "precision": by_class(lambda score: score.precision),
        "recall": by_class(lambda score: score.recall),
        "recall_30m": by_class(lambda score: score.near_recall),
        "judged": {
            "frames": len(pairs),
            "labels": {name: score.labels for name, score in scores.items()},
            "min_bev_iou": rules.min_iou,
            "min_score": rules.min_score,
        },
    }


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 3)
