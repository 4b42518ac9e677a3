"""How far boxes are off, by their distance: measured against labels, for a model's card.

Detections are assigned by falling score, each to the nearest label of its class and frame that has
none yet, if their centres are closer over ground than 15 % of the distance, or 2 m: what is
farther off is taken for a false detection, not for an error of one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError
from kd3d_core.evaluation.kitti_rules import check_frames
from kd3d_core.evaluation.objects import Objects
from kd3d_core.geometry.boxes import wrap_angle
from kd3d_core.models.box_errors import BoxErrors

_NEAR_M, _SHARE = 2.0, 0.15


def measure_box_errors(
    ground_truth: Sequence[Sequence[Label]],
    detections: Sequence[Sequence[Label]],
    thresholds: Mapping[str, float],
    borders_m: Sequence[float],
    fewest: int = 20,
) -> tuple[BoxErrors, ...]:
    """Rows of rising distance; one that has fewer boxes goes into the next.

    >>> car = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  0.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  0.5 1.7 22.0  0  0.9", "example")
    >>> measure_box_errors([[car]], [[found]], {}, [10, 30], fewest=1)
    (BoxErrors(to_m=30.0, boxes=1, along_m=2.0, across_m=0.5, up_m=0.0, yaw_rad=0.0),)

    Args:
        ground_truth: labels of each frame.
        detections: of each frame.
        thresholds: by class, the score from which on its detections count; all others do.
        borders_m: rising distances over ground at which rows end.
        fewest: boxes that a row needs.

    Raises:
        DataError: the frames don't belong together, or too few boxes are found for a single row.
    """
    labels, found = Objects.from_frames(ground_truth), Objects.from_frames(detections)
    check_frames(ground_truth, detections, found)
    lowest = {name.lower(): score for name, score in thresholds.items()}
    is_shown = found.score >= np.array([lowest.get(name, -np.inf) for name in found.type])
    label, detection = _pairs(labels, found, np.flatnonzero(is_shown))

    distance = ground_distance(labels)[label]
    errors = box_offsets(labels, found, label, detection)
    rows, start = [], 0.0
    for border in borders_m:
        inside = (distance >= start) & (distance < border)
        count = int(inside.sum())
        if count >= fewest:
            numbers = np.sqrt((errors[inside] ** 2).mean(0)).round(3) + 0.0
            rows.append(BoxErrors(float(border), count, *numbers.tolist()))
            start = border
    if not rows:
        raise DataError(
            f"{len(label)} detections belong to labels, too few for a row of {fewest}: take more "
            "frames, or lower thresholds"
        )
    return tuple(rows)


def box_offsets(
    labels: Objects, found: Objects, label: np.ndarray, detection: np.ndarray
) -> np.ndarray:
    """`(P, 4)` how far detections are off their labels: along the line of sight over ground, across
    it, upwards (m), and in yaw (rad).

    >>> car = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  0.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 0 0  1.5 1.6 4.0  0.5 1.7 22.0  0  0.9", "example")
    >>> objects, first = (Objects.from_frames([[each]]) for each in (car, found)), np.array([0])
    >>> box_offsets(*objects, first, first).tolist()
    [[2.0, 0.5, 0.0, 0.0]]
    """
    truth = labels.location[label]
    distance = np.hypot(truth[:, 0], truth[:, 2])
    ray = truth[:, [0, 2]] / np.maximum(distance, 1e-9)[:, None]
    off = found.location[detection] - truth
    along = (off[:, [0, 2]] * ray).sum(1)
    across = off[:, 0] * ray[:, 1] - off[:, 2] * ray[:, 0]
    heights = found.dimensions[detection, 0] - labels.dimensions[label, 0]
    up = heights / 2 - off[:, 1]  # of the centres; y is down, and that of the bottom
    yaw = wrap_angle(found.rotation_y[detection] - labels.rotation_y[label])
    return np.column_stack([along, across, up, yaw])


def ground_distance(objects: Objects) -> np.ndarray:
    """`(N,)` from the camera over ground, metres.

    >>> car = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  3.0 1.7 4.0  0", "example")
    >>> ground_distance(Objects.from_frames([[car]])).tolist()
    [5.0]
    """
    return np.hypot(objects.location[:, 0], objects.location[:, 2])


class LabelsInReach:
    """The labels with a 3D box that a detection may belong to: closer over ground than `reach`.

    Args:
        labels: of all frames.
        families: by class of a detection, the classes of such labels; default: its own.
    """

    def __init__(
        self, labels: Objects, families: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._labels, self._families = labels, families or {}
        self._reach_m = np.maximum(_NEAR_M, _SHARE * ground_distance(labels))
        self._has_box: np.ndarray = np.all(labels.dimensions > 0, axis=1)

    def __call__(self, found: Objects, index: int) -> list[int]:
        """Labels of the detection's frame and class in reach, nearest first."""
        labels, frame, name = self._labels, found.frame[index], str(found.type[index])
        there = np.arange(*np.searchsorted(labels.frame, [frame, frame + 1]))
        family = self._families.get(name, (name,))
        there = there[self._has_box[there] & np.isin(labels.type[there], family)]
        offset = labels.location[there] - found.location[index]
        apart = np.hypot(offset[:, 0], offset[:, 2])
        order = np.argsort(apart, kind="stable")
        return there[order[(apart < self._reach_m[there])[order]]].tolist()


def _pairs(labels: Objects, found: Objects, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of labels and of the detections that belong to them."""
    near, is_free = LabelsInReach(labels), np.ones(len(labels.frame), bool)
    pairs = []
    for index in shown[np.argsort(-found.score[shown], kind="stable")].tolist():
        label = next((each for each in near(found, index) if is_free[each]), None)
        if label is not None:
            is_free[label] = False
            pairs.append((label, index))
    columns = np.array(pairs, np.int64).reshape(-1, 2).T
    return columns[0], columns[1]
