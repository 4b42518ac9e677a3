"""Where a detector is good and where it isn't: AP by distance and occlusion, worst frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.kitti_ap import KittiAP, evaluate_scopes
from kd3d_core.evaluation.kitti_rules import (
    CLASSES,
    EVERYTHING,
    LEVELS,
    Candidates,
    Level,
    Scope,
    Strictness,
    assign_pairs,
    by_overlap,
    min_overlap,
    taking_part,
)
from kd3d_core.evaluation.objects import Metric

OCCLUSIONS = ("fully visible", "partly occluded", "largely occluded")
"""KITTI's levels 0, 1 and 2; nothing is known of objects with others."""


@dataclass(frozen=True)
class Breakdown:
    """AP of one run, as a whole and in parts.

    Attributes:
        overall: of all frames, as `kd3d-eval kitti` has it.
        by_distance: `0-20 m` and so on, from the camera over ground.
        by_occlusion: of labels of one kind of `OCCLUSIONS`; only "hard" has all of them. Wrong
            detections are the same for each, as a detection has no occlusion.
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
    """Judge the detections of some frames.

    Args:
        ground_truth, detections, iou: as in `kitti_ap.evaluate`, with its errors.
        bands_m: rising borders of the bands of distance, metres.

    Raises:
        Kd3dError: the borders don't rise.
    """
    if len(bands_m) < 2 or not all(near < far for near, far in pairwise(bands_m)):
        raise Kd3dError(f"bands {list(bands_m)}: give two or more rising distances")
    bands = {f"{near:g}-{far:g} m": Scope((near, far)) for near, far in pairwise(bands_m)}
    occlusions = {name: Scope(occlusion=level) for level, name in enumerate(OCCLUSIONS)}
    scopes = [EVERYTHING, *bands.values(), *occlusions.values()]
    overall, *parts = evaluate_scopes(ground_truth, detections, scopes, iou)
    return Breakdown(
        overall,
        dict(zip(bands, parts[: len(bands)], strict=True)),
        dict(zip(occlusions, parts[len(bands) :], strict=True)),
    )


@dataclass(frozen=True)
class Mistakes:
    """What went wrong in F frames at one score.

    Attributes:
        missed: `(F,)` labels that count and were not found.
        wrong: `(F,)` detections that count and found nothing.
    """

    missed: np.ndarray
    wrong: np.ndarray

    @property
    def worst(self) -> list[int]:
        """Indices of the frames with mistakes, those with most first, of equals the earlier."""
        total = self.missed + self.wrong
        order = np.argsort(-total, kind="stable")
        return order[total[order] > 0].tolist()


def mistakes(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    min_score: float,
    iou: Strictness = "strict",
    metric: Metric = "3d",
) -> Mistakes:
    """Mistakes of each frame, over all classes, among what counts as hard.

    Args:
        ground_truth, detections, iou: as in `evaluate`, with its errors.
        min_score: lower ones are no detections.
        metric: where overlap is measured.
    """
    candidates = Candidates.of(ground_truth, detections, iou)
    labels, found = candidates.labels, candidates.detections
    missed = np.zeros(candidates.frames, np.int64)
    wrong = np.zeros(candidates.frames, np.int64)
    for name in CLASSES:
        minimum = min_overlap(iou, name, metric)
        level = Level.of(labels, found, name, len(LEVELS) - 1, EVERYTHING.asks_for(labels))
        pairs = candidates.pairs[metric]
        pairs = taking_part(level, pairs[pairs.overlap > minimum])
        pairs = pairs[by_overlap(level, pairs)]
        chosen = assign_pairs(labels, found, pairs, np.array([min_score]))[:, 0]
        lost = level.label_counts.copy()
        lost[pairs.label[chosen]] = False
        false = level.detection_counts & (found.score >= min_score)
        false &= candidates.dont_care[metric] <= minimum
        false[pairs.detection[chosen]] = False
        missed += np.bincount(labels.frame[lost], minlength=candidates.frames)
        wrong += np.bincount(found.frame[false], minlength=candidates.frames)
    return Mistakes(missed, wrong)
