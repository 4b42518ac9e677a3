"""KITTI's average precision, with the rules of the official devkit (Geiger et al., CVPR 2012).

Which labels and detections count depends on class and difficulty:

- a label counts if it has the class and is tall, visible and complete enough; labels that are not,
  and those of a neighbouring class (Van for Car, Person_sitting for Pedestrian), are *ignored*:
  detections may be assigned to them without being right or wrong;
- a detection that is not tall enough is ignored too, whatever its class;
- detections in `DontCare` areas are not wrong (see `share_in_dont_care` for bev and 3d).

A first pass finds the scores at which recall reaches 0, 1/40, ... 40/40 of the labels; a second
counts right and wrong detections at each of them. Precision is then made non-increasing over
recall and averaged: R40 over 40 positions without recall 0 (Simonelli et al., ICCV 2019), R11
over 11 with it. There is at most one score per label, so 40 labels or fewer never make 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.kitti_rules import (
    CLASSES,
    EVERYTHING,
    LEVELS,
    OVERLAPS,
    Candidates,
    Level,
    Scope,
    Strictness,
    assign_pairs,
    both_count,
    by_overlap,
    min_overlap,
    taking_part,
)
from kd3d_core.evaluation.objects import Objects, Pairs

METRICS = ("bbox", "aos", "bev", "3d")
POSITIONS = 41
"""Recall positions 0, 1/40, ... 1, and so the largest number of score thresholds."""

_NO_ALPHA = -10


@dataclass(frozen=True)
class PrecisionCurves:
    """Precision over recall, or orientation similarity over recall for aos.

    Attributes:
        values: `(3, 41)` for easy, moderate and hard, at recall 0, 1/40, ... 1, non-increasing;
            NaN where AP is undefined: no label counts, or (for aos) a detection has no alpha.
    """

    values: np.ndarray

    @property
    def r40(self) -> tuple[float, ...]:
        """AP in percent, easy, moderate and hard, over 40 recall positions; NaN if undefined."""
        return tuple((self.values[:, 1:].mean(1) * 100).tolist())

    @property
    def r11(self) -> tuple[float, ...]:
        """AP in percent, easy, moderate and hard, over 11 recall positions; NaN if undefined."""
        return tuple((self.values[:, ::4].mean(1) * 100).tolist())


@dataclass(frozen=True)
class KittiAP:
    """Average precision of a set of frames.

    Attributes:
        iou: strictness of the overlap.
        frames: number of frames.
        objects: by class, how many labels count as easy, moderate and hard.
        curves: by class and then by metric.
    """

    iou: Strictness
    frames: int
    objects: dict[str, tuple[int, ...]]
    curves: dict[str, dict[str, PrecisionCurves]]

    def mean_r40(self, metric: str, level: str, classes: Sequence[str] = CLASSES) -> float | None:
        """Mean R40 over the classes that have AP, percent; None if none has.

        `classes` are in lower case; those that KITTI doesn't evaluate are left out.
        """
        index = LEVELS.index(level)
        values = [self.curves[name][metric].r40[index] for name in classes if name in self.curves]
        defined = [value for value in values if not np.isnan(value)]
        return sum(defined) / len(defined) if defined else None

    def to_json(self) -> dict[str, dict[str, dict[str, list[float | None]]]]:
        """`{"car": {"3d": {"R40": [easy, moderate, hard], "R11": [...]}, ...}, ...}`, percent.

        None stands for an AP that is undefined.
        """
        return {
            class_name: {
                metric: {"R40": _or_none(curve.r40), "R11": _or_none(curve.r11)}
                for metric, curve in curves.items()
            }
            for class_name, curves in self.curves.items()
        }


def _or_none(values: tuple[float, ...]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values]


def evaluate(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    iou: Strictness = "strict",
) -> KittiAP:
    """KITTI AP of the detections of some frames.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.1  0  0.9", "example")
    >>> result = evaluate([[car]] * 50, [[found]] * 50)
    >>> result.objects["car"], result.curves["car"]["3d"].r40
    ((50, 50, 50), (100.0, 100.0, 100.0))

    Args:
        detections: detections of each frame, in the same order; classes that KITTI doesn't
            evaluate are left out.
        iou: `strict` for 0.7 (car) and 0.5 (pedestrian, cyclist); `loose` for 0.5 and 0.25 in bev
            and 3d.

    Raises:
        DataError: the numbers of frames differ, or a detection has no score.
    """
    return evaluate_scope(Candidates.of(ground_truth, detections, iou))


def evaluate_both(
    ground_truth: Sequence[Sequence[Label]], detections: Sequence[Sequence[Label]]
) -> tuple[KittiAP, KittiAP]:
    """As `evaluate`, strict and loose; overlaps, which take longest, are computed once.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  3.0 1.7 20.0  0  0.9", "example")
    >>> strict, loose = evaluate_both([[car]] * 50, [[found]] * 50)
    >>> strict.mean_r40("3d", "moderate"), loose.mean_r40("3d", "moderate")
    (0.0, 100.0)
    """
    # What overlaps enough to be right when strict is among what does when loose.
    candidates = Candidates.of(ground_truth, detections, "loose")
    strict = replace(candidates, iou="strict")
    return evaluate_scope(strict), evaluate_scope(candidates)


def evaluate_scope(candidates: Candidates, scope: Scope = EVERYTHING) -> KittiAP:
    """As `evaluate`, for some of the labels; overlaps, which take longest, are in `candidates`.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> candidates = Candidates.of([[car]], [[]], "strict")
    >>> [evaluate_scope(candidates, Scope(m)).objects["car"] for m in ((0, 10), (10, 30))]
    [(0, 0, 0), (1, 1, 1)]
    """
    labels, found = candidates.labels, candidates.detections
    asked, elsewhere = scope.asks_for(labels), ~scope.reaches(found)
    oriented = not (found.alpha == _NO_ALPHA).any()
    objects: dict[str, tuple[int, ...]] = {}
    curves: dict[str, dict[str, PrecisionCurves]] = {}
    for name in CLASSES:
        levels = [Level.of(labels, found, name, level, asked) for level in range(len(LEVELS))]
        objects[name] = tuple(int(level.label_counts.sum()) for level in levels)
        curves[name] = {}
        for metric in OVERLAPS:
            minimum = min_overlap(candidates.iou, name, metric)
            close = candidates.pairs[metric]
            close = close[close.overlap > minimum]
            excused = (candidates.dont_care[metric] > minimum) | elsewhere
            results = [_curves(labels, found, level, close, excused) for level in levels]
            curves[name][metric] = PrecisionCurves(np.stack([result[0] for result in results]))
            if metric == "bbox":
                similarity = np.stack([result[1] for result in results])
                curves[name]["aos"] = PrecisionCurves(
                    similarity if oriented else np.full_like(similarity, np.nan)
                )
    return KittiAP(candidates.iou, candidates.frames, objects, curves)


def _curves(
    labels: Objects, detections: Objects, level: Level, pairs: Pairs, excused: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and orientation similarity `(41,)` over recall, non-increasing.

    Both are NaN if no label counts. `pairs` overlap enough for this class and kind of overlap;
    `excused` detections, `(D,)`, are not wrong where they find nothing.
    """
    if not level.label_counts.any():
        undefined = np.full(POSITIONS, np.nan)
        return undefined, undefined
    pairs = taking_part(level, pairs)
    thresholds = _recall_thresholds(labels, detections, level, pairs)
    pairs = pairs[by_overlap(level, pairs)]
    chosen = assign_pairs(labels, detections, pairs, thresholds)
    counts = both_count(level, pairs)
    right = chosen[counts]
    turned = labels.alpha[pairs.label[counts]] - detections.alpha[pairs.detection[counts]]
    similarity = ((1 + np.cos(turned)) / 2) @ right
    may_be_wrong = level.detection_counts & ~excused
    wrong = _count_from(detections.score[may_be_wrong], thresholds)
    wrong = wrong - chosen[may_be_wrong[pairs.detection]].sum(0)
    true_positives = right.sum(0)
    # Nothing found and nothing wrong leaves the devkit with 0 / 0; here it is a precision of 0.
    answers = np.maximum(true_positives + wrong, 1)
    return _envelope(true_positives / answers), _envelope(similarity / answers)


def _recall_thresholds(
    labels: Objects, detections: Objects, level: Level, pairs: Pairs
) -> np.ndarray:
    """First pass: scores at which recall reaches the positions; every label takes the best score.

    For `n` labels that count, the k-th best score of the detections that found one stands for
    recall k / n. It is used unless the next one is closer to the position that is due.
    """
    pairs = pairs[np.lexsort((-detections.score[pairs.detection], pairs.label))]
    score = detections.score[pairs.detection]
    chosen = assign_pairs(labels, detections, pairs, np.array([-np.inf]))
    scores = np.sort(score[chosen[:, 0] & both_count(level, pairs)])[::-1]
    count = int(level.label_counts.sum())
    thresholds: list[float] = []
    due = 0.0
    for number, value in enumerate(scores.tolist(), 1):
        last = number == len(scores)
        if not last and (number + 1) / count - due < due - number / count:
            continue
        thresholds.append(value)
        # Added up as the devkit does, whose rounding decides ties.
        due += 1 / (POSITIONS - 1.0)
    return np.array(thresholds)


def _count_from(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many scores are not below each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, "left")


def _envelope(values: np.ndarray) -> np.ndarray:
    """`(41,)`: each value raised to the largest that follows; 0 where recall is not reached."""
    padded = np.zeros(POSITIONS)
    padded[: len(values)] = np.maximum.accumulate(values[::-1])[::-1]
    return padded
