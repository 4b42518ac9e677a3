"""Why detections are wrong: one kind of error each, after TIDE (Bolya et al., ECCV 2020), in 3D.

Which detections are right or wrong and which labels count is KITTI's level hard (`kitti_ap`), in
3D, from one score on. By falling score, each wrong detection gets the first kind that holds:

- `duplicate`: it overlaps a label of its class enough, which another detection has found;
- `class`: it overlaps a label of another class by more than 0.1, and more than any of its own;
- `place`, `size` or `heading`: it belongs to a label of its class that is still free, the nearest
  in reach (`box_errors.LabelsInReach`). That of the three which, taken from the label, gives most
  overlap;
- `duplicate`: there is such a label, but another detection belongs to it;
- `background`: nothing of its class is near.

TIDE asks for an overlap of 0.1 in place of a reach: boxes from one camera are off by metres along
the line of sight, where they overlap nothing and still are of that car.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from kd3d_core.classes import NEIGHBOURS
from kd3d_core.data.labels import Label
from kd3d_core.evaluation.box_errors import LabelsInReach, ground_distance
from kd3d_core.evaluation.kitti_rules import (
    CLASSES,
    EVERYTHING,
    LEVELS,
    OVERLAPS,
    Candidates,
    Level,
    Strictness,
    both_count,
    min_overlap,
    second_pass,
)
from kd3d_core.evaluation.objects import DONT_CARE, Objects, overlapping_pairs

RIGHT, MISSED = "right", "missed"
KINDS = ("place", "size", "heading", "class", "duplicate", "background")
_LEAST_OVERLAP = 0.1
_NONE = -1
_NEIGHBOUR = {name.lower(): other.lower() for name, other in NEIGHBOURS.items()}


@dataclass(frozen=True)
class ErrorKinds:
    """What became of L labels and D detections of F frames.

    Attributes:
        frames: F.
        labels, detections: of all frames.
        kind: `(D,)` `RIGHT` or one of `KINDS`; empty for a detection that doesn't count.
        label: `(D,)` index of the label that the detection belongs to; -1: to none.
        fate: `(L,)` `RIGHT`, or `place`, `size`, `heading` or `class` of the detection that
            belongs to it, or `MISSED`; empty for a label that doesn't count.
    """

    frames: int
    labels: Objects
    detections: Objects
    kind: np.ndarray
    label: np.ndarray
    fate: np.ndarray

    @property
    def is_wrong(self) -> np.ndarray:
        """`(D,)` the detection counts, and found nothing."""
        return np.isin(self.kind, KINDS)

    @cached_property
    def wrong(self) -> np.ndarray:
        """`(F,)` number of wrong detections."""
        return np.bincount(self.detections.frame[self.is_wrong], minlength=self.frames)

    @cached_property
    def not_found(self) -> np.ndarray:
        """`(F,)` number of labels that count and weren't found, however near a detection is."""
        lost = (self.fate != "") & (self.fate != RIGHT)
        return np.bincount(self.labels.frame[lost], minlength=self.frames)

    @property
    def worst(self) -> list[int]:
        """Indices of the frames with errors, by falling number, then by index."""
        total = self.wrong + self.not_found
        order = np.argsort(-total, kind="stable")
        return order[total[order] > 0].tolist()

    @property
    def distance_m(self) -> np.ndarray:
        """`(D,)` over ground: of the label that a detection belongs to, else its own."""
        own = ground_distance(self.detections)
        if not len(self.labels.frame):
            return own
        return np.where(self.label == _NONE, own, ground_distance(self.labels)[self.label])


def explain(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    min_score: float,
    iou: Strictness = "strict",
) -> ErrorKinds:
    """Kinds of the errors in some frames; detections with lower scores are left out.

    >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> far = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 22.5  0  0.9", "example")
    >>> found = explain([[], [car]], [[far], [far]], min_score=0.3)
    >>> found.kind.tolist(), found.fate.tolist(), found.worst
    (['background', 'place'], ['place'], [1, 0])

    Args:
        ground_truth, detections, iou: as in `kitti_ap.evaluate`, with its errors.
        min_score: lowest score of a detection that counts.
    """
    candidates = Candidates.of(ground_truth, detections, iou)
    labels, found = candidates.labels, candidates.detections
    kind = np.full(len(found.frame), "", "<U10")
    label = np.full(len(found.frame), _NONE)
    fate = np.full(len(labels.frame), "", "<U10")
    free = (labels.type != DONT_CARE) & (labels.dimensions > 0).all(1)
    for name in CLASSES:
        minimum = min_overlap(iou, name, "3d")
        level = Level.of(labels, found, name, len(LEVELS) - 1, EVERYTHING.asks_for(labels))
        pairs, chosen = second_pass(candidates, level, name, "3d", np.array([min_score]))
        pairs = pairs[np.flatnonzero(chosen[:, 0])]
        false = level.detection_counts & (found.score >= min_score)
        false &= candidates.dont_care["3d"] <= minimum
        false[pairs.detection] = False
        kind[false] = "background"
        label[pairs.detection] = pairs.label
        free[pairs.label] = False
        fate[level.label_counts] = MISSED
        fate[pairs.label[level.label_counts[pairs.label]]] = RIGHT
        kind[pairs.detection[both_count(level, pairs)]] = RIGHT
    _find_reasons(candidates, free, kind, label, fate)
    return ErrorKinds(candidates.frames, labels, found, kind, label, fate)


def _find_reasons(
    candidates: Candidates,
    free: np.ndarray,
    kind: np.ndarray,
    label: np.ndarray,
    fate: np.ndarray,
) -> None:
    """Replace `background` where another kind holds, and fill in what belongs together.

    `free` are the labels with a box that no detection has found, `(L,)`.
    """
    labels, found = candidates.labels, candidates.detections
    overlaps = _overlaps(labels, found)
    near = LabelsInReach(labels, {name: _family(name) for name in CLASSES})
    displaced = []
    wrong = np.flatnonzero(kind == "background")
    for index in wrong[np.argsort(-found.score[wrong], kind="stable")].tolist():
        name = str(found.type[index])
        own, other = {_NONE: 0.0}, {_NONE: 0.0}
        for each, overlap in overlaps.get(index, {}).items():
            (own if labels.type[each] in _family(name) else other)[each] = overlap
        best_own, best_other = max(own, key=own.__getitem__), max(other, key=other.__getitem__)
        in_reach = near(found, index)
        nearest_free = next((each for each in in_reach if free[each]), _NONE)
        if own[best_own] > min_overlap(candidates.iou, name, "3d"):
            kind[index], label[index] = "duplicate", best_own
        elif other[best_other] > own[best_own]:
            kind[index], label[index] = "class", best_other
            if free[best_other] and fate[best_other] == MISSED:
                fate[best_other] = "class"
            free[best_other] = False
        elif nearest_free != _NONE:
            label[index] = nearest_free
            free[nearest_free] = False
            displaced.append(index)
        elif in_reach:
            kind[index], label[index] = "duplicate", in_reach[0]
    rows = np.array(displaced, np.int64)
    kind[rows] = _what_is_off(labels, found, label[rows], rows)
    counts = rows[fate[label[rows]] == MISSED]
    fate[label[counts]] = kind[counts]


def _family(name: str) -> tuple[str, ...]:
    """Names of the labels that a detection of a class may find."""
    return (name, *([_NEIGHBOUR[name]] if name in _NEIGHBOUR else []))


def _overlaps(labels: Objects, found: Objects) -> dict[int, dict[int, float]]:
    """By detection and label, intersection over union in 3D of more than `_LEAST_OVERLAP`."""
    objects = np.flatnonzero(labels.type != DONT_CARE)
    minimum = dict.fromkeys(OVERLAPS, _LEAST_OVERLAP)
    pairs = overlapping_pairs(labels, found, objects, minimum)["3d"]
    overlaps: dict[int, dict[int, float]] = {}
    for label, detection, overlap in zip(
        pairs.label.tolist(), pairs.detection.tolist(), pairs.overlap.tolist(), strict=True
    ):
        overlaps.setdefault(detection, {})[label] = overlap
    return overlaps


def _what_is_off(
    labels: Objects, found: Objects, label: np.ndarray, detection: np.ndarray
) -> np.ndarray:
    """`(P,)` place, size or heading: which of the label's gives a detection most overlap."""
    truth, boxes = _in_frames_of_their_own(labels, label), _in_frames_of_their_own(found, detection)
    corrected = (
        replace(boxes, location=truth.location),
        replace(boxes, dimensions=truth.dimensions),
        replace(boxes, rotation_y=truth.rotation_y),
    )
    overlap = np.zeros((len(corrected), len(label)))
    for row, each in zip(overlap, corrected, strict=True):
        pairs = overlapping_pairs(truth, each, np.arange(len(label)), dict.fromkeys(OVERLAPS, 0.0))
        row[pairs["3d"].label] = pairs["3d"].overlap
    return np.array(KINDS[: len(corrected)])[overlap.argmax(0)]


def _in_frames_of_their_own(objects: Objects, index: np.ndarray) -> Objects:
    """The chosen objects, each in a frame of its own."""
    columns = {each.name: getattr(objects, each.name)[index] for each in fields(objects)}
    return Objects(**{**columns, "frame": np.arange(len(index))})
