"""The rules of KITTI's benchmark: classes, difficulties, overlaps, neighbouring classes.

They decide which labels and detections count; `kitti_ap` describes them.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kd3d_core.classes import BENCHMARK_CLASSES, NEIGHBOURS
from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError
from kd3d_core.evaluation.matching import assign
from kd3d_core.evaluation.objects import (
    Metric,
    Objects,
    Pairs,
    overlapping_pairs,
    share_in_dont_care,
)

Strictness = Literal["strict", "loose"]

CLASSES = tuple(name.lower() for name in BENCHMARK_CLASSES)
LEVELS = ("easy", "moderate", "hard")

OVERLAPS: tuple[Metric, ...] = ("bbox", "bev", "3d")
_NEIGHBOUR = {name.lower(): other.lower() for name, other in NEIGHBOURS.items()}
_MIN_HEIGHT_PX = (40, 25, 25)
_MAX_OCCLUSION = (0, 1, 2)
_MAX_TRUNCATION = (0.15, 0.3, 0.5)

_STRICT = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
_LOOSE = {"car": 0.5, "pedestrian": 0.25, "cyclist": 0.25}


def min_overlap(iou: Strictness, class_name: str, metric: str) -> float:
    """Intersection over union that a right detection exceeds.

    `strict` is the official one; `loose` is what papers report beside it for bev and 3d, with the
    image rectangles still compared by the strict one.

    >>> min_overlap("strict", "car", "3d"), min_overlap("loose", "car", "3d")
    (0.7, 0.5)
    """
    loose = iou == "loose" and metric in {"bev", "3d"}
    return (_LOOSE if loose else _STRICT)[class_name]


def check_frames(ground_truth: Sized, detections: Sized, found: Objects) -> None:
    """`DataError` unless both are of as many frames, and every detection `found` has a score.

    >>> check_frames([[], []], [[], []], Objects.from_frames([[], []]))
    """
    if len(ground_truth) != len(detections):
        raise DataError(f"{len(ground_truth)} frames have labels, {len(detections)} detections")
    without_score = np.flatnonzero(np.isnan(found.score))
    if len(without_score):
        frame = found.frame[without_score[0]]
        raise DataError(f"a detection of frame {frame}, counted from 0, has no score")


@dataclass(frozen=True)
class Scope:
    """The labels that an AP is about; all of them by default, as in the devkit.

    Labels out of scope are ignored: detections may be assigned to them without being right or
    wrong. A detection at a distance out of scope is right if it is assigned to a label in scope,
    and otherwise isn't counted as wrong. Detections have no occlusion, so the wrong detections are
    the same for every value of `occlusion`.

    Attributes:
        distance_m: from the camera over ground, nearest and (excluded) farthest, metres.
        occlusion: KITTI's 0, 1 or 2; None for any.
    """

    distance_m: tuple[float, float] = (0.0, np.inf)
    occlusion: int | None = None

    def asks_for(self, labels: Objects) -> np.ndarray:
        """`(L,)` whether the label has the distance and the occlusion."""
        asked = self.reaches(labels)
        return asked if self.occlusion is None else asked & (labels.occluded == self.occlusion)

    def reaches(self, objects: Objects) -> np.ndarray:
        """`(N,)` whether the label or detection has the distance."""
        distance = np.hypot(objects.location[:, 0], objects.location[:, 2])
        near, far = self.distance_m
        return (distance >= near) & (distance < far)


EVERYTHING = Scope()


@dataclass(frozen=True)
class Candidates:
    """What is computed once for all scopes.

    Attributes:
        iou: strictness of the overlap.
        frames: number of frames.
        labels, detections: of all frames.
        pairs: for each kind of overlap, the pairs that overlap enough for some class.
        dont_care: for each, the share `(D,)` of a detection that lies in a `DontCare` area.
    """

    iou: Strictness
    frames: int
    labels: Objects
    detections: Objects
    pairs: dict[Metric, Pairs]
    dont_care: dict[Metric, np.ndarray]

    @classmethod
    def of(
        cls,
        ground_truth: Sequence[Sequence[Label]],
        detections: Sequence[Sequence[Label]],
        iou: Strictness,
    ) -> "Candidates":
        """Columns and overlaps of the frames; `DataError` as `kitti_ap.evaluate` has it."""
        labels, found = Objects.from_frames(ground_truth), Objects.from_frames(detections)
        check_frames(ground_truth, detections, found)
        minimum = {
            metric: min(min_overlap(iou, name, metric) for name in CLASSES) for metric in OVERLAPS
        }
        index = np.flatnonzero(np.isin(labels.type, (*CLASSES, *_NEIGHBOUR.values())))
        return cls(
            iou,
            len(ground_truth),
            labels,
            found,
            overlapping_pairs(labels, found, index, minimum),
            share_in_dont_care(labels, found),
        )


def exclusions(labels: Objects, level: int) -> dict[str, np.ndarray]:
    """Which labels are left out of a difficulty, and why: `(L,)` bool for each reason.

    >>> labels = Objects.from_frames([[]])
    >>> list(exclusions(labels, LEVELS.index("hard")))
    ['without 2D box', 'at most 25 px high', 'occluded beyond 2', 'truncated by more than 0.5']
    """
    height, occlusion = _MIN_HEIGHT_PX[level], _MAX_OCCLUSION[level]
    truncation = _MAX_TRUNCATION[level]
    return {
        "without 2D box": labels.height_px <= 0,
        f"at most {height} px high": labels.height_px <= height,
        f"occluded beyond {occlusion}": labels.occluded > occlusion,
        f"truncated by more than {truncation}": labels.truncated > truncation,
    }


@dataclass(frozen=True)
class Level:
    """Roles of L labels and D detections for one class and difficulty.

    Attributes:
        label_counts: `(L,)` the label must be found.
        label_ignored: `(L,)` the label may be found.
        detection_counts: `(D,)` the detection is right or wrong.
        detection_ignored: `(D,)` the detection may be assigned to a label, without effect on
            precision.
    """

    label_counts: np.ndarray
    label_ignored: np.ndarray
    detection_counts: np.ndarray
    detection_ignored: np.ndarray

    @classmethod
    def of(
        cls,
        labels: Objects,
        detections: Objects,
        class_name: str,
        level: int,
        asked: np.ndarray,
    ) -> "Level":
        """Roles for a class and level; labels that are not `asked` for are ignored."""
        is_class = labels.type == class_name
        too_hard = np.any(list(exclusions(labels, level).values()), axis=0)
        neighbour = labels.type == _NEIGHBOUR.get(class_name, "")
        small = np.abs(detections.height_px) < _MIN_HEIGHT_PX[level]
        return cls(
            label_counts=is_class & ~too_hard & asked,
            label_ignored=neighbour | (is_class & (too_hard | ~asked)),
            detection_counts=(detections.type == class_name) & ~small,
            detection_ignored=small,
        )


def taking_part(level: Level, pairs: Pairs) -> Pairs:
    """The pairs whose label may be found and whose detection may find one.

    >>> yes, no = np.array([True]), np.array([False])
    >>> pair = Pairs(np.array([0]), np.array([0]), np.array([0.8]))
    >>> len(taking_part(Level(yes, no, yes, no), pair).label)
    1
    >>> len(taking_part(Level(no, no, yes, no), pair).label)
    0
    """
    takes_part = (level.label_counts | level.label_ignored)[pairs.label]
    takes_part &= (level.detection_counts | level.detection_ignored)[pairs.detection]
    return pairs[np.flatnonzero(takes_part)]


def second_pass(
    candidates: Candidates, level: Level, name: str, metric: Metric, thresholds: np.ndarray
) -> tuple[Pairs, np.ndarray]:
    """The pairs of a class that overlap enough, and which result at each threshold, `(P, T)`.

    >>> car = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  2.0 1.7 20.0  0  0.6", "example")
    >>> candidates = Candidates.of([[car]], [[found]], "strict")
    >>> level = Level(*np.array([[True], [False], [True], [False]]))
    >>> second_pass(candidates, level, "car", "3d", np.array([0.5, 0.7]))[1].tolist()
    [[True, False]]
    """
    pairs = candidates.pairs[metric]
    pairs = taking_part(level, pairs[pairs.overlap > min_overlap(candidates.iou, name, metric)])
    pairs = pairs[by_overlap(level, pairs)]
    return pairs, assign_pairs(candidates.labels, candidates.detections, pairs, thresholds)


def assign_pairs(
    labels: Objects, detections: Objects, pairs: Pairs, thresholds: np.ndarray
) -> np.ndarray:
    """`(P, T)` whether a pair results from `matching.assign` at each score threshold.

    >>> car = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  2.0 1.7 20.0  0  0.6", "example")
    >>> labels, detections = Objects.from_frames([[car]]), Objects.from_frames([[found]])
    >>> pair = Pairs(np.array([0]), np.array([0]), np.array([1.0]))
    >>> assign_pairs(labels, detections, pair, np.array([0.5, 0.7])).tolist()
    [[True, False]]
    """
    return assign(
        pairs.label,
        pairs.detection,
        labels.frame[pairs.label],
        detections.score[pairs.detection],
        thresholds,
    )


def by_overlap(level: Level, pairs: Pairs) -> np.ndarray:
    """Order of pairs in the second pass: by label, then by the label's preference.

    A label prefers the detection that overlaps most; ignored detections come last.

    >>> level = Level(np.array([True]), np.array([False]), *np.array([[1, 1, 0], [0, 0, 1]], bool))
    >>> pairs = Pairs(np.zeros(3, int), np.arange(3), np.array([0.7, 0.8, 0.9]))
    >>> by_overlap(level, pairs).tolist()
    [1, 0, 2]
    """
    overlap = np.where(level.detection_ignored[pairs.detection], 0, pairs.overlap)
    return np.lexsort((pairs.detection, -overlap, pairs.label))


def both_count(level: Level, pairs: Pairs) -> np.ndarray:
    """`(P,)` whether the pair makes its detection right: neither of the two is ignored.

    >>> level = Level(*np.array([[1, 0], [0, 1], [1, 1], [0, 0]], bool))
    >>> both_count(level, Pairs(np.arange(2), np.arange(2), np.ones(2))).tolist()
    [True, False]
    """
    return level.label_counts[pairs.label] & level.detection_counts[pairs.detection]
