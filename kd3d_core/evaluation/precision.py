"""Precision and recall at one score, of boxes seen from above: numbers for a drive, not for papers.

A detection is right if its footprint overlaps that of a label of its class by more than `min_iou`.
Each label takes one detection at most, the one that overlaps most, with the devkit's assignment
(`kd3d_core.evaluation.matching`); what is left over is wrong. Unlike in KITTI's AP, every label
counts, however small or hidden. Labels of a neighbouring class (Van for Car) excuse the detections
that they take. `DontCare` areas exist only in images, not among boxes: detections there are wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap

import numpy as np
import torch

from kd3d_core.classes import BENCHMARK_CLASSES, NEIGHBOURS
from kd3d_core.data.messages import ObjectBoxes
from kd3d_core.errors import DataError
from kd3d_core.evaluation.matching import assign
from kd3d_core.geometry.boxes import footprints
from kd3d_core.ops.rotated import box_iou_rotated


@dataclass(frozen=True)
class JudgeRules:
    """What counts as found.

    Attributes:
        min_iou: intersection over union from above that a right detection exceeds.
        min_score: detections with a lower score are left out. AP needs no such choice; precision
            and recall do.
        near_m: distance from the frame's origin, over ground, up to which labels are near.
    """

    min_iou: float = 0.5
    min_score: float = 0.3
    near_m: float = 30.0


@dataclass(frozen=True)
class ClassScore:
    """Counts of one class over all frames; the shares are None where there is nothing to divide.

    Attributes:
        labels: how many objects there are.
        found: how many of them were found.
        near_labels: how many of them are near.
        near_found: how many of those were found.
        wrong: detections that found nothing.
    """

    labels: int
    found: int
    near_labels: int
    near_found: int
    wrong: int

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right."""
        return _share(self.found, self.found + self.wrong)

    @property
    def recall(self) -> float | None:
        """Share of the labels that were found."""
        return _share(self.found, self.labels)

    @property
    def near_recall(self) -> float | None:
        """Share of the near labels that were found."""
        return _share(self.near_found, self.near_labels)

    def __add__(self, other: "ClassScore") -> "ClassScore":
        return ClassScore(
            self.labels + other.labels,
            self.found + other.found,
            self.near_labels + other.near_labels,
            self.near_found + other.near_found,
            self.wrong + other.wrong,
        )


_NOTHING = ClassScore(0, 0, 0, 0, 0)


def precision_recall(
    truth: Sequence[ObjectBoxes],
    found: Sequence[ObjectBoxes],
    rules: JudgeRules = JudgeRules(),
    classes: Sequence[str] = BENCHMARK_CLASSES,
) -> dict[str, ClassScore]:
    """Judge the detections of some frames, class by class.

    Args:
        truth: labels of each frame, of all classes.
        found: detections of each frame, in the same order and coordinate frame.
        rules: what counts as found.
        classes: those to judge.

    Raises:
        DataError: the numbers of frames differ.
    """
    if len(truth) != len(found):
        raise DataError(f"{len(truth)} frames have labels, {len(found)} detections")
    return {
        name: sum(starmap(partial(_judge, name, rules), zip(truth, found, strict=True)), _NOTHING)
        for name in classes
    }


def _judge(name: str, rules: JudgeRules, truth: ObjectBoxes, found: ObjectBoxes) -> ClassScore:
    """Counts of one frame. Neighbours choose last, so that they excuse only what is left."""
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
    """`(N, M)` overlap from above of `(N, 7)` and `(M, 7)` boxes."""
    rectangles, other_rectangles = (
        torch.from_numpy(footprints(each).astype(np.float64)) for each in (boxes, others)
    )
    return box_iou_rotated(rectangles, other_rectangles).numpy()


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
