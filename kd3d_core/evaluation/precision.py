"""Precision and recall at one score threshold, of boxes seen from above; for a drive's report.

A detection is right if its footprint overlaps that of a label of its class by more than `min_iou`.
Each label is assigned one detection at most, the one that overlaps most, as in KITTI's devkit
(`kd3d_core.evaluation.matching`); detections without a label are wrong. Unlike in KITTI's AP, every
label counts, however small or hidden. Detections assigned to labels of a neighbouring class (Van
for Car) are neither right nor wrong. `DontCare` areas exist only in images, so detections in them
are wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import starmap

import numpy as np

from kd3d_core.classes import BENCHMARK_CLASSES, NEIGHBOURS
from kd3d_core.errors import DataError
from kd3d_core.evaluation.matching import assign
from kd3d_core.geometry.boxes import footprints
from kd3d_core.geometry.rectangles import intersection_area
from kd3d_core.messages.types import ObjectBoxes


@dataclass(frozen=True)
class MatchRules:
    """When a label counts as found.

    Attributes:
        min_iou: intersection over union from above that a right detection exceeds.
        min_score: detections with a lower score are left out.
        near_m: distance from the frame's origin, over ground, up to which labels are near.
    """

    min_iou: float = 0.5
    min_score: float = 0.3
    near_m: float = 30.0


@dataclass(frozen=True)
class ClassScore:
    """Counts of one class over all frames: labels, those that were found, wrong detections.

    >>> score = ClassScore(labels=4, found=3, near_labels=0, near_found=0, wrong=1)
    >>> score.precision, score.recall, score.near_recall
    (0.75, 0.75, None)
    """

    labels: int
    found: int
    near_labels: int
    near_found: int
    wrong: int

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right; None without detections."""
        return _share(self.found, self.found + self.wrong)

    @property
    def recall(self) -> float | None:
        """Share of the labels that were found; None without labels."""
        return _share(self.found, self.labels)

    @property
    def near_recall(self) -> float | None:
        """Share of the near labels that were found; None without near labels."""
        return _share(self.near_found, self.near_labels)

    def __add__(self, other: "ClassScore") -> "ClassScore":
        return ClassScore(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


_NOTHING = ClassScore(0, 0, 0, 0, 0)


def precision_recall(
    truth: Sequence[ObjectBoxes],
    found: Sequence[ObjectBoxes],
    rules: MatchRules = MatchRules(),
) -> dict[str, ClassScore]:
    """Precision and recall of the detections of some frames, by class of the benchmark.

    Labels are of all classes, and in the same coordinate frame as the detections.

    >>> boxes = np.array([[10.0, 0, -1.7, 4, 1.6, 1.5, 0], [20, 5, -1.7, 4, 1.6, 1.5, 0]])
    >>> truth = ObjectBoxes(0, "velodyne", boxes, ("Car", "Car"), np.ones(2))
    >>> found = ObjectBoxes(0, "velodyne", boxes[:1] + 0.1, ("Car",), np.array([0.9]))
    >>> score = precision_recall([truth], [found])["Car"]
    >>> score.precision, score.recall
    (1.0, 0.5)
    """
    if len(truth) != len(found):
        raise DataError(f"{len(truth)} frames have labels, {len(found)} detections")
    return {
        name: sum(starmap(partial(_count, name, rules), zip(truth, found, strict=True)), _NOTHING)
        for name in BENCHMARK_CLASSES
    }


def _count(name: str, rules: MatchRules, truth: ObjectBoxes, found: ObjectBoxes) -> ClassScore:
    """Counts of one frame. Labels of neighbouring classes choose last, among what is left."""
    is_class = np.array([label == name for label in truth.names], bool)
    is_neighbour = np.isin(truth.names, NEIGHBOURS.get(name, ()))
    labels = np.concatenate([truth.boxes[is_class], truth.boxes[is_neighbour]])
    count = int(is_class.sum())
    answers = np.array([each == name for each in found.names], bool)
    answers &= found.scores >= rules.min_score
    detections = found.boxes[answers]

    iou = _footprint_iou(labels, detections)
    label, detection = np.nonzero(iou > rules.min_iou)
    best_first = np.lexsort((-iou[label, detection], label))
    label, detection = label[best_first], detection[best_first]
    one_frame, any_score = np.zeros(len(label), int), np.zeros(len(label))
    taken = assign(label, detection, one_frame, any_score, np.zeros(1))[:, 0]

    is_near = np.hypot(labels[:count, 0], labels[:count, 1]) <= rules.near_m
    found_labels = label[taken & (label < count)]
    return ClassScore(
        labels=count,
        found=len(found_labels),
        near_labels=int(is_near.sum()),
        near_found=int(is_near[found_labels].sum()),
        wrong=len(detections) - int(taken.sum()),
    )


def _footprint_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`(N, M)` intersection over union, from above, of `(N, 7)` and `(M, 7)` boxes."""
    rectangles, other_rectangles = (
        footprints(each).astype(np.float64) for each in (boxes[:, None], others[None])
    )
    overlap = intersection_area(rectangles, other_rectangles)
    areas, other_areas = (each[..., 2] * each[..., 3] for each in (rectangles, other_rectangles))
    union = areas + other_areas - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=overlap > 0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
