"""Average precision by the distance between centres, as nuScenes has it (Caesar et al., CVPR 2020).

Detections of a class are assigned by falling score, each to the nearest label of its class and
frame that has none yet. A detection is right if the distance between the centres, over ground, is
below a threshold. Precision is interpolated at recall 0, 0.01, ... 1; recall and precision below a
minimum don't count. AP is the mean over the thresholds.

It needs no 2D boxes, and distinguishes a detector that is 3 m off from one that finds nothing,
where AP by overlap is 0 for both. Unlike in nuScenes, classes have no maximum distance.
"""

from collections.abc import Sequence

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.kitti_rules import check_frames
from kd3d_core.evaluation.objects import Objects

THRESHOLDS_M = (0.5, 1.0, 2.0, 4.0)
_RECALL = np.linspace(0, 1, 101)


def distance_ap(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    classes: Sequence[str],
    min_recall: float = 0.1,
    min_precision: float = 0.1,
) -> dict[str, float | None]:
    """AP of each class in percent; None for a class that has no label with a 3D box.

    >>> car = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  2.0 1.7 21.5  0  0.9", "example")
    >>> ap = distance_ap([[car]], [[found]], ["Car", "Cyclist"])
    >>> round(ap["Car"]), ap["Cyclist"]  # right at 2 and 4 m, wrong at 0.5 and 1 m
    (50, None)

    Args:
        ground_truth: labels of each frame; every one with a 3D box counts, however hidden.
        classes: class names; upper and lower case are alike.
        min_recall: precision at this recall and below is left out.
        min_precision: is subtracted from precision, and the rest scaled back to 0 to 1.
    """
    labels, found = Objects.from_frames(ground_truth), Objects.from_frames(detections)
    check_frames(ground_truth, detections, found)
    has_box = (labels.dimensions > 0).all(1)
    ap: dict[str, float | None] = {}
    for name in classes:
        label = np.flatnonzero((labels.type == name.lower()) & has_box)
        detection = np.flatnonzero(found.type == name.lower())
        ap[name] = None
        if len(label):
            # By falling score; of equal scores the later first, as in nuScenes's devkit.
            detection = detection[np.lexsort((detection, found.score[detection]))[::-1]]
            right = _right(labels, found, label, detection)
            curves = [_precision(each, len(label)) for each in right.T]
            beyond = np.stack(curves)[:, round(100 * min_recall) + 1 :]
            share = np.maximum(beyond - min_precision, 0).mean() / (1 - min_precision)
            ap[name] = float(100 * share)
    return ap


def _right(
    labels: Objects, detections: Objects, label: np.ndarray, detection: np.ndarray
) -> np.ndarray:
    """`(D, T)` whether a detection is right at each threshold; they are assigned in this order."""
    thresholds = np.array(THRESHOLDS_M)
    right = np.zeros((len(detection), len(thresholds)), bool)
    for frame in np.unique(detections.frame[detection]):
        rows = np.flatnonzero(detections.frame[detection] == frame)
        there = label[labels.frame[label] == frame]
        if not len(there):
            continue
        offset = detections.location[detection[rows], None] - labels.location[there]
        distance = np.hypot(offset[..., 0], offset[..., 2])
        is_free = np.ones((len(thresholds), len(there)), bool)
        for row, to_labels in zip(rows, distance, strict=True):
            to_free = np.where(is_free, to_labels, np.inf)
            nearest = to_free.argmin(1)
            right[row] = to_free.min(1) < thresholds
            is_free[np.flatnonzero(right[row]), nearest[right[row]]] = False
    return right


def _precision(right: np.ndarray, labels: int) -> np.ndarray:
    """`(101,)` precision at `_RECALL` of detections in the order of their scores."""
    if not right.any():
        return np.zeros(len(_RECALL))
    found = np.cumsum(right)
    return np.interp(_RECALL, found / labels, found / np.arange(1, len(right) + 1), right=0)
