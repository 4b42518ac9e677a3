"""Strengths and weaknesses of a detector: AP by distance and occlusion, and the worst frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.kitti_ap import KittiAP, evaluate_scope
from kd3d_core.evaluation.kitti_rules import (
    CLASSES,
    EVERYTHING,
    LEVELS,
    Candidates,
    Level,
    Scope,
    Strictness,
    min_overlap,
    second_pass,
)

OCCLUSIONS = ("fully visible", "partly occluded", "largely occluded")
"""KITTI's levels 0, 1 and 2; others mean unknown."""


@dataclass(frozen=True)
class Breakdown:
    """AP of one run, as a whole and in parts.

    Attributes:
        overall: of all labels, as `kd3d-eval kitti` prints it.
        by_distance: by band, such as `0-20 m`, of the distance from the camera over ground.
        by_occlusion: by the labels' occlusion, one of `OCCLUSIONS`; only "hard" has all of them.
            Wrong detections are the same for each, as a detection has no occlusion.
    """

    overall: KittiAP
    by_distance: dict[str, KittiAP]
    by_occlusion: dict[str, KittiAP]


def break_down(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    bands_m: Sequence[float],
    iou: Strictness = "strict",
) -> Breakdown:
    """AP of the detections of some frames, as a whole and in parts.

    >>> car = Label.parse("Car 0 1 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> parts = break_down([[car]], [[]], [0, 10, 30])
    >>> {band: result.objects["car"] for band, result in parts.by_distance.items()}
    {'0-10 m': (0, 0, 0), '10-30 m': (0, 1, 1)}
    >>> {name: result.objects["car"][2] for name, result in parts.by_occlusion.items()}
    {'fully visible': 0, 'partly occluded': 1, 'largely occluded': 0}

    Args:
        ground_truth, detections, iou: as in `kitti_ap.evaluate`, with its errors.
        bands_m: rising borders of the distance bands, metres.
    """
    if len(bands_m) < 2 or not all(near < far for near, far in pairwise(bands_m)):
        raise Kd3dError(f"bands {list(bands_m)}: give two or more rising distances")
    bands = {f"{near:g}-{far:g} m": Scope((near, far)) for near, far in pairwise(bands_m)}
    occlusions = {name: Scope(occlusion=level) for level, name in enumerate(OCCLUSIONS)}
    candidates = Candidates.of(ground_truth, detections, iou)
    return Breakdown(
        evaluate_scope(candidates),
        {name: evaluate_scope(candidates, scope) for name, scope in bands.items()},
        {name: evaluate_scope(candidates, scope) for name, scope in occlusions.items()},
    )


@dataclass(frozen=True)
class Mistakes:
    """Mistakes in F frames at one score threshold.

    Attributes:
        missed: `(F,)` number of labels that count and were not found.
        wrong: `(F,)` number of detections that count and found nothing.
    """

    missed: np.ndarray
    wrong: np.ndarray

    @property
    def worst(self) -> list[int]:
        """Indices of the frames with mistakes, by falling number, then by index."""
        total = self.missed + self.wrong
        order = np.argsort(-total, kind="stable")
        return order[total[order] > 0].tolist()


def mistakes(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    min_score: float,
    iou: Strictness = "strict",
) -> Mistakes:
    """Mistakes of each frame in 3D, over all classes, among labels and detections of level hard.

    Detections with a lower score than `min_score` are left out; the rest as in `kitti_ap.evaluate`.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> far = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 30.0  0  0.9", "example")
    >>> counts = mistakes([[], [car]], [[], [far]], min_score=0.3)
    >>> counts.missed.tolist(), counts.wrong.tolist(), counts.worst
    ([0, 1], [0, 1], [1])
    """
    candidates = Candidates.of(ground_truth, detections, iou)
    labels, found = candidates.labels, candidates.detections
    missed = np.zeros(candidates.frames, np.int64)
    wrong = np.zeros(candidates.frames, np.int64)
    for name in CLASSES:
        minimum = min_overlap(iou, name, "3d")
        level = Level.of(labels, found, name, len(LEVELS) - 1, EVERYTHING.asks_for(labels))
        pairs, chosen = second_pass(candidates, level, name, "3d", np.array([min_score]))
        chosen = chosen[:, 0]
        lost = level.label_counts.copy()
        lost[pairs.label[chosen]] = False
        false = level.detection_counts & (found.score >= min_score)
        false &= candidates.dont_care["3d"] <= minimum
        false[pairs.detection[chosen]] = False
        missed += np.bincount(labels.frame[lost], minlength=candidates.frames)
        wrong += np.bincount(found.frame[false], minlength=candidates.frames)
    return Mistakes(missed, wrong)
