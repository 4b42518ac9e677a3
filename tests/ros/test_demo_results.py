"""The demo's summary and page, against drives that are counted by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.models.card import ONLY_RENDERED, UNTRAINED, ModelCard
from kd3d_core.visual.page import Frame
from kd3d_core.visual.report import DriveFrame
from kd3d_ros.demo_input import Drive
from kd3d_ros.demo_results import Played, rules_for, summarize, write_page

PLAYED = Played(
    Drive("rendered drive, seed 9", "what is to be known of it", 16, rate_hz=10.0),
    "runs/mine/model.yaml",
    speed=0.5,
    sent=dict.fromkeys(range(16), 0),
    counters={
        **{"received": 15, "processed": 2, "dropped": 3},
        **{"skipped": 0, "rejected": 4, "failed": 6},
    },
    weights={"weights": ["d", "e"], "trained": True, "trained_on": "all streets <here>"},
    rules=rules_for(ModelCard()),
)


def boxes(*rows: tuple[str, float, float]) -> ObjectBoxes:
    """Boxes of 4 x 2 m that point ahead, from class, metres ahead and score."""
    numbers = [[x, 0, -1.7, 4, 2, 1.5, 0] for _, x, _ in rows]
    names, scores = tuple(name for name, _, _ in rows), np.array([score for _, _, score in rows])
    return ObjectBoxes(0, "lidar", np.array(numbers, np.float32).reshape(-1, 7), names, scores)


def frame(truth: ObjectBoxes | None, found: ObjectBoxes) -> DriveFrame:
    return DriveFrame(Frame("0.0 s", ()), found, truth, 40.0)


def summary_of(*frames: DriveFrame, **changes: Any) -> dict[str, Any]:
    return summarize(frames, replace(PLAYED, **changes))


def test_recall_within_30_m_counts_near_labels_alone_at_an_overlap_of_a_half():
    summary = summary_of(
        # Near: one found, 1 m off (3/5 shared); one missed, 1.5 m off (2.5/5.5). Far: one found.
        frame(
            boxes(("Car", 10, 1), ("Car", 20, 1), ("Car", 40, 1)),
            boxes(("Car", 11, 0.9), ("Car", 21.5, 0.9), ("Car", 40, 0.9)),
        ),
        # A near one found, one behind 30 m missed; the pedestrian's score is too low.
        frame(
            boxes(("Car", 30, 1), ("Car", 30.1, 1), ("Pedestrian", 8, 1)),
            boxes(("Car", 30, 0.3), ("Pedestrian", 8, 0.29)),
        ),
    )
    assert summary["recall_30m"] == {"Car": 0.667, "Pedestrian": 0.0, "Cyclist": None}
    assert summary["recall"] == {"Car": 0.6, "Pedestrian": 0.0, "Cyclist": None}
    assert summary["precision"] == {"Car": 0.75, "Pedestrian": None, "Cyclist": None}
    assert summary["judged"] == {
        "frames": 2,
        "labels": {"Car": 5, "Pedestrian": 1, "Cyclist": 0},
        "min_bev_iou": 0.5,
        "min_score": 0.3,
    }


def test_what_is_above_the_models_own_thresholds_counts():
    rules = rules_for(ModelCard(score_thresholds={"Pedestrian": 0.2}))
    seen = frame(boxes(("Pedestrian", 8, 1)), boxes(("Pedestrian", 8, 0.21)))
    summary = summary_of(seen, rules=rules)
    assert (summary["recall"]["Pedestrian"], summary["judged"]["min_score"]) == (1.0, 0.0)


def test_frames_add_up_and_without_labels_nothing_is_judged():
    summary = summary_of(frame(None, boxes(("Car", 10, 0.9))))
    names = ("sent", "processed", "dropped", "rejected", "failed", "lost")
    sent, *others = counts = [summary[f"frames_{name}"] for name in names]
    assert counts == [16, 2, 3, 4, 6, 1]
    assert sum(others) == sent
    assert summary["boxes"] == {"Car": 1}
    assert summary["recall_30m"] is summary["judged"] is None


def test_summary_and_page_say_which_model_which_drive_and_what_became_of_frames(tmp_path: Path):
    summary = summary_of()
    assert (summary["model"], summary["drive"]) == (PLAYED.model, PLAYED.drive.name)
    write_page(tmp_path / "trained.html", [], PLAYED, summary)
    text = (tmp_path / "trained.html").read_text()
    title = "<h1>kd3d: model runs/mine/model.yaml on rendered drive, seed 9</h1>"
    for part in (title, "16 images", "at 0.5 times real time", PLAYED.drive.note):
        assert part in text
    for name, count in (("dropped", 3), ("rejected", 4), ("failed", 6), ("lost", 1)):
        assert f"<dt>{name}</dt><dd>{count}</dd>" in text
    assert "<dt>trained on</dt><dd>all streets &lt;here&gt;</dd>" in text
    assert 'role="alert"' not in text
    for doubt in (UNTRAINED, ONLY_RENDERED):
        write_page(tmp_path / "doubt.html", [], replace(PLAYED, caveat=doubt), summary)
        assert f'role="alert">{doubt.text}.' in (tmp_path / "doubt.html").read_text()
