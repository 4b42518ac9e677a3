"""What each kind of error costs: the AP that correcting it would add, as TIDE has it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.error_kinds import KINDS, MISSED, ErrorKinds, explain
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.evaluation.kitti_rules import CLASSES, Strictness

_MODERATE = 1
_TAKEN = {"place": "location", "size": "dimensions", "heading": "rotation_y", "class": "type"}
"""What a detection with an error of this kind takes from its label."""


def ap_gains(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    iou: Strictness = "strict",
) -> dict[str, dict[str, float]]:
    """By class and kind of error, 3D R40 at moderate with it corrected less that without, percent.

    All detections count, whatever their score. Displaced ones, those of wrong size, heading or
    class take that from their label; duplicates and background are left out; and so are the labels
    that are missed. NaN for a class without labels, or without any that isn't missed.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> off = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 22.0  0  0.9", "example")
    >>> gains = ap_gains([[car]] * 41, [[off]] * 41)["car"]
    >>> {kind: gain for kind, gain in gains.items() if gain}
    {'place': 100.0}
    """
    errors = explain(ground_truth, detections, -np.inf, iou)
    before = _ap(ground_truth, detections, iou)
    gains: dict[str, dict[str, float]] = {name: {} for name in CLASSES}
    for kind in (*KINDS, MISSED):
        after = _ap(*_corrected(ground_truth, detections, errors, kind), iou)
        for name in CLASSES:
            gains[name][kind] = after[name] - before[name]
    return gains


def _ap(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    iou: Strictness,
) -> dict[str, float]:
    curves = evaluate(ground_truth, detections, iou).curves
    return {name: curves[name]["3d"].r40[_MODERATE] for name in CLASSES}


def _corrected(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    errors: ErrorKinds,
    kind: str,
) -> tuple[list[list[Label]], list[list[Label]]]:
    """Labels and detections without the errors of a kind."""
    labels = [label for frame in ground_truth for label in frame]
    found = [label for frame in detections for label in frame]
    frames, kept = len(ground_truth), errors.kind != kind
    if attribute := _TAKEN.get(kind):
        for index in np.flatnonzero(~kept).tolist():
            truth = getattr(labels[errors.label[index]], attribute)
            found[index] = replace(found[index], **{attribute: truth})
        kept = np.ones_like(kept)
    asked = (errors.fate != kind) | (kind != MISSED)
    return (
        _by_frame(labels, errors.labels.frame, asked, frames),
        _by_frame(found, errors.detections.frame, kept, frames),
    )


def _by_frame(
    flat: Sequence[Label], frame: np.ndarray, kept: np.ndarray, frames: int
) -> list[list[Label]]:
    rows: list[list[Label]] = [[] for _ in range(frames)]
    for index in np.flatnonzero(kept).tolist():
        rows[frame[index]].append(flat[index])
    return rows
