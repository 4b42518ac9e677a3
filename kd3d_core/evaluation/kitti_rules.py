"""Which labels and detections count in KITTI's benchmark: classes, levels, overlaps, neighbours.

`kitti_ap` says in words what is decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kd3d_core.classes import BENCHMARK_CLASSES, NEIGHBOURS
from kd3d_core.data.kitti import Label
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
    image rectangles still judged by the strict one.
    """
    loose = iou == "loose" and metric in {"bev", "3d"}
    return (_LOOSE if loose else _STRICT)[class_name]


@dataclass(frozen=True)
class Scope:
    """Which labels are asked for; all of them by default, as the devkit has it.

    Others are ignored: detections may find them without being right or wrong. A detection at
    another distance is right if it finds a label that is asked for, and else it isn't wrong.
    Detections have no occlusion, so the wrong ones are the same for every one asked for.

    Attributes:
        distance_m: from the camera over ground, nearest and (excluded) farthest, metres.
        occlusion: KITTI's 0, 1 or 2; None for any.
    """

    distance_m: tuple[float, float] = (0.0, np.inf)
    occlusion: int | None = None

    def asks_for(self, labels: Objects) -> np.ndarray:
        """`(L,)` the label has the distance and the occlusion."""
        asked = self.reaches(labels)
        return asked if self.occlusion is None else asked & (labels.occluded == self.occlusion)

    def reaches(self, objects: Objects) -> np.ndarray:
        """`(N,)` the label or detection has the distance."""
        distance = np.hypot(objects.location[:, 0], objects.location[:, 2])
        near, far = self.distance_m
        return (distance >= near) & (distance < far)


EVERYTHING = Scope()


@dataclass(frozen=True)
class Candidates:
    """All that doesn't depend on what is asked for.

    Attributes:
        iou: which overlap a right detection must have.
        frames: number of frames.
        labels, detections: of all frames.
        pairs: for each kind of overlap, those that overlap enough for some class.
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
        if len(ground_truth) != len(detections):
            raise DataError(f"{len(ground_truth)} frames have labels, {len(detections)} detections")
        labels, found = Objects.from_frames(ground_truth), Objects.from_frames(detections)
        without_score = np.flatnonzero(np.isnan(found.score))
        if len(without_score):
            frame = found.frame[without_score[0]]
            raise DataError(f"a detection of frame {frame}, counted from 0, has no score")
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


@dataclass(frozen=True)
class Level:
    """What each of L labels and D detections is for one class and difficulty.

    Attributes:
        label_counts: `(L,)` the label must be found.
        label_ignored: `(L,)` it may be found.
        detection_counts: `(D,)` the detection is right or wrong.
        detection_ignored: `(D,)` it may be assigned to a label, without effect on precision.
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
        too_hard = (
            (labels.occluded > _MAX_OCCLUSION[level])
            | (labels.truncated > _MAX_TRUNCATION[level])
            | (labels.height_px <= _MIN_HEIGHT_PX[level])
        )
        neighbour = labels.type == _NEIGHBOUR.get(class_name, "")
        small = np.abs(detections.height_px) < _MIN_HEIGHT_PX[level]
        return cls(
            label_counts=is_class & ~too_hard & asked,
            label_ignored=neighbour | (is_class & (too_hard | ~asked)),
            detection_counts=(detections.type == class_name) & ~small,
            detection_ignored=small,
        )


def taking_part(level: Level, pairs: Pairs) -> Pairs:
    """The pairs whose label may be found and whose detection may find one."""
    takes_part = (level.label_counts | level.label_ignored)[pairs.label]
    takes_part &= (level.detection_counts | level.detection_ignored)[pairs.detection]
    return pairs[np.flatnonzero(takes_part)]


def assign_pairs(
    labels: Objects, detections: Objects, pairs: Pairs, thresholds: np.ndarray
) -> np.ndarray:
    """`(P, T)` pairs that come about at each threshold."""
    return assign(
        pairs.label,
        pairs.detection,
        labels.frame[pairs.label],
        detections.score[pairs.detection],
        thresholds,
    )


def by_overlap(level: Level, pairs: Pairs) -> np.ndarray:
    """Order of pairs in the second pass: by label, then by the label's preference.

    That is the detection that overlaps most, and only where none counts the first ignored one.
    """
    overlap = np.where(level.detection_ignored[pairs.detection], 0, pairs.overlap)
    return np.lexsort((pairs.detection, -overlap, pairs.label))


def both_count(level: Level, pairs: Pairs) -> np.ndarray:
    """`(P,)` the pair makes its detection right: neither of the two is ignored."""
    return level.label_counts[pairs.label] & level.detection_counts[pairs.detection]
