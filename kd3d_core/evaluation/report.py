"""Strengths and weaknesses of a detector: AP by distance and occlusion, kinds of errors, depth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from kd3d_core.data.labels import Label
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.error_kinds import ErrorKinds
from kd3d_core.evaluation.kitti_ap import KittiAP, evaluate_scope
from kd3d_core.evaluation.kitti_rules import Candidates, Scope, Strictness

if TYPE_CHECKING:
    from kd3d_core.evaluation.depth import DepthReport  # which needs torch

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
    scopes = [Scope(band) for band in pairwise(bands_m)]
    bands = dict(zip(band_names(bands_m), scopes, strict=True))
    occlusions = {name: Scope(occlusion=level) for level, name in enumerate(OCCLUSIONS)}
    candidates = Candidates.of(ground_truth, detections, iou)
    return Breakdown(
        evaluate_scope(candidates),
        {name: evaluate_scope(candidates, scope) for name, scope in bands.items()},
        {name: evaluate_scope(candidates, scope) for name, scope in occlusions.items()},
    )


@dataclass(frozen=True)
class Run:
    """Detections of one model by frame, and their evaluation.

    Attributes:
        name: of the run, for headings and legends.
        detections: of each frame.
        breakdown: AP as a whole and in parts.
        errors: kinds of its errors, from the evaluation's `min_score` on.
        gains: what correcting them would add, see `error_gains.ap_gains`.
        depth: errors of its depth maps, if there are any.
    """

    name: str
    detections: Sequence[Sequence[Label]]
    breakdown: Breakdown
    errors: ErrorKinds
    gains: Mapping[str, Mapping[str, float]]
    depth: "DepthReport | None" = None


@dataclass(frozen=True)
class Evaluation:
    """One run, or several to compare.

    Attributes:
        names: of the frames.
        ground_truth: labels of each frame.
        runs: the first is the one that is explained.
        min_score: lowest score of errors and of boxes in pictures.
        bands_m: borders of the distance bands, metres.
    """

    names: Sequence[str]
    ground_truth: Sequence[Sequence[Label]]
    runs: tuple[Run, ...]
    min_score: float
    bands_m: tuple[float, ...]

    @property
    def classes(self) -> list[str]:
        """Classes that have labels, in lower case."""
        counts = self.runs[0].breakdown.overall.objects
        return [name for name, levels in counts.items() if levels[-1]]


def band_names(bands_m: Sequence[float]) -> list[str]:
    """Names of the distance bands between borders.

    >>> band_names([0, 20, 40.5])
    ['0-20 m', '20-40.5 m']
    """
    return [f"{near:g}-{far:g} m" for near, far in pairwise(bands_m)]
