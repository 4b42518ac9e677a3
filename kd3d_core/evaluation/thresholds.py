"""Score thresholds: from which score on the detections of a class are worth showing."""

from collections.abc import Sequence

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.kitti_rules import (
    LEVELS,
    Candidates,
    Level,
    both_count,
    min_overlap,
    second_pass,
)

_SCORES = np.arange(1, 100) / 100
_LEVEL = LEVELS.index("moderate")


def best_thresholds(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    classes: Sequence[str],
) -> dict[str, float]:
    """By class, the score from which on the F1 of its detections is highest, in steps of 0.01.

    F1 is 2 right / (2 right + wrong + missed), with KITTI's rules for the moderate level and the
    loose overlaps in 3D, except that detections in the image's `DontCare` areas are not wrong. Of
    equal thresholds the lowest is taken. A class without labels has none. One of which nothing is
    found rightly has 1, so that none of its detections is shown; if that is so for all classes,
    none has a threshold: nothing can be chosen yet.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> right = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0  0.6", "example")
    >>> wrong = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  9.0 1.7 20.0  0  0.4", "example")
    >>> best_thresholds([[car]], [[right, wrong]], ["Car", "Cyclist"])
    {'Car': 0.41}
    """
    candidates = Candidates.of(ground_truth, detections, "loose")
    scores = {name: _f1(candidates, name.lower()) for name in classes}
    if not any(f1 is not None and f1.any() for f1 in scores.values()):
        return {}
    return {
        name: float(_SCORES[f1.argmax()]) if f1.any() else 1.0
        for name, f1 in scores.items()
        if f1 is not None
    }


def _f1(candidates: Candidates, name: str) -> np.ndarray | None:
    """`(99,)` F1 of a class at each of the thresholds; None if no label counts."""
    labels, found = candidates.labels, candidates.detections
    level = Level.of(labels, found, name, _LEVEL, np.ones(len(labels.type), bool))
    if not level.label_counts.any():
        return None
    pairs, chosen = second_pass(candidates, level, name, "3d", _SCORES)
    right = chosen[both_count(level, pairs)].sum(0)
    in_dont_care = candidates.dont_care["bbox"] > min_overlap("loose", name, "bbox")
    may_be_wrong = level.detection_counts & ~in_dont_care
    shown = (found.score[may_be_wrong, None] >= _SCORES).sum(0)
    wrong = shown - chosen[may_be_wrong[pairs.detection]].sum(0)
    missed = level.label_counts.sum() - right
    return 2 * right / np.maximum(2 * right + wrong + missed, 1)
