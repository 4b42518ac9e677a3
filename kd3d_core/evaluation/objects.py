"""Labels of many frames as columns, and the overlap of objects in the same frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.geometry.rectangles import intersection_area

Metric = Literal["bbox", "bev", "3d"]
"""Where overlap is measured: in the image, on the ground, in space."""

DONT_CARE = "dontcare"

_PAIRS_AT_ONCE = 1 << 16
"""Pairs whose overlap is computed at a time, which bounds the memory."""


@dataclass(frozen=True)
class Objects:
    """N labels or detections, sorted by frame and in each frame in the file's order.

    Attributes:
        frame: `(N,)` int64, index of the frame.
        type: `(N,)` class names in lower case, as the devkit compares them.
        truncated, occluded, alpha, rotation_y, score: `(N,)` float64; a label's score is NaN.
        bbox: `(N, 4)` left, top, right, bottom, pixels.
        dimensions: `(N, 3)` height, width, length, metres.
        location: `(N, 3)` bottom centre in the camera frame (y down), metres.
    """

    frame: np.ndarray
    type: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    alpha: np.ndarray
    bbox: np.ndarray
    dimensions: np.ndarray
    location: np.ndarray
    rotation_y: np.ndarray
    score: np.ndarray

    @classmethod
    def from_frames(cls, frames: Sequence[Sequence[Label]]) -> "Objects":
        """Columns of the labels of all frames.

        >>> car = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
        >>> objects = Objects.from_frames([[], [car, car]])
        >>> objects.frame.tolist(), objects.type.tolist(), objects.height_px.tolist()
        ([1, 1], ['car', 'car'], [9.0, 9.0])
        """
        labels = [label for frame in frames for label in frame]
        numbers = np.array(
            [
                (
                    *(label.truncated, label.occluded, label.alpha),
                    *label.bbox,
                    *label.dimensions,
                    *label.location,
                    label.rotation_y,
                    np.nan if label.score is None else label.score,
                )
                for label in labels
            ],
            np.float64,
        ).reshape(-1, 15)
        return cls(
            frame=np.repeat(np.arange(len(frames)), [len(frame) for frame in frames]),
            type=np.array([label.type.lower() for label in labels], np.str_),
            truncated=numbers[:, 0],
            occluded=numbers[:, 1],
            alpha=numbers[:, 2],
            bbox=numbers[:, 3:7],
            dimensions=numbers[:, 7:10],
            location=numbers[:, 10:13],
            rotation_y=numbers[:, 13],
            score=numbers[:, 14],
        )

    @property
    def height_px(self) -> np.ndarray:
        """`(N,)` height of the image rectangles, pixels."""
        return self.bbox[:, 3] - self.bbox[:, 1]


@dataclass(frozen=True)
class Pairs:
    """P pairs of a label and a detection of the same frame.

    Attributes:
        label: `(P,)` index into the labels, rising.
        detection: `(P,)` index into the detections, rising for equal labels.
        overlap: `(P,)` intersection over union, more than 0.
    """

    label: np.ndarray
    detection: np.ndarray
    overlap: np.ndarray

    def __getitem__(self, index: np.ndarray) -> "Pairs":
        return Pairs(self.label[index], self.detection[index], self.overlap[index])


def overlapping_pairs(
    labels: Objects, detections: Objects, label_index: np.ndarray, minimum: dict[Metric, float]
) -> dict[Metric, Pairs]:
    """The pairs whose intersection over union is more than `minimum`, for each kind of overlap.

    >>> car = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
    >>> found = Label.parse("Car 0 0 0  0 0 9 9  1.5 1.6 4.0  3.0 1.7 20.0  0  0.9", "example")
    >>> labels, detections = Objects.from_frames([[car]]), Objects.from_frames([[found]])
    >>> minimum = {"bbox": 0.5, "bev": 0.5, "3d": 0.5}
    >>> pairs = overlapping_pairs(labels, detections, np.array([0]), minimum)
    >>> pairs["bbox"].overlap.tolist(), pairs["3d"].overlap.round(2).tolist()
    ([1.0], [0.6])

    Args:
        label_index: rising indices of the labels to compare.
        minimum: by each of the three kinds of overlap, the value that a pair must exceed.
    """
    found: dict[Metric, list[Pairs]] = {metric: [] for metric in minimum}
    sizes, other_sizes = _sizes(labels), _sizes(detections)
    for label, detection in _same_frame(labels.frame, detections.frame, label_index):
        for metric, inside in _intersections(labels, detections, label, detection).items():
            union = sizes[metric][label] + other_sizes[metric][detection] - inside
            overlap = _ratio(inside, union)
            keep = np.flatnonzero(overlap > minimum[metric])
            found[metric].append(Pairs(label, detection, overlap)[keep])
    return {
        metric: Pairs(
            np.concatenate([np.empty(0, np.int64), *(part.label for part in pairs)]),
            np.concatenate([np.empty(0, np.int64), *(part.detection for part in pairs)]),
            np.concatenate([np.empty(0), *(part.overlap for part in pairs)]),
        )
        for metric, pairs in found.items()
    }


def share_in_dont_care(labels: Objects, detections: Objects) -> dict[Metric, np.ndarray]:
    """Largest share `(D,)` of each detection that lies in one `DontCare` area.

    The areas are meant for the image. In the object set their 3D fields (size -1, location -1000)
    reach no detection; in the tracking set (size -1000, location -10, -1, -1) they make a square
    of 1 km around the camera, which the devkit uses for bev. So do we, to be comparable.

    >>> area = Label.parse("DontCare -1 -1 -10  0 0 9 9  -1 -1 -1  -1000 -1000 -1000  -10", "-")
    >>> found = Label.parse("Car 0 0 0  6 0 12 9  1.5 1.6 4.0  2.0 1.7 20.0  0  0.9", "example")
    >>> share = share_in_dont_care(Objects.from_frames([[area]]), Objects.from_frames([[found]]))
    >>> {metric: values.tolist() for metric, values in share.items()}
    {'bbox': [0.5], 'bev': [0.0], '3d': [0.0]}
    """
    sizes = _sizes(detections)
    share = {metric: np.zeros(len(detections.frame)) for metric in sizes}
    areas = np.flatnonzero(labels.type == DONT_CARE)
    for area, detection in _same_frame(labels.frame, detections.frame, areas):
        for metric, inside in _intersections(labels, detections, area, detection).items():
            np.maximum.at(share[metric], detection, _ratio(inside, sizes[metric][detection]))
    return share


def _same_frame(
    frame: np.ndarray, other_frame: np.ndarray, index: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of an object of `index` and another of the same frame, in order, in chunks."""
    first = np.searchsorted(other_frame, frame[index], "left")
    count = np.searchsorted(other_frame, frame[index], "right") - first
    part = np.cumsum(count) // _PAIRS_AT_ONCE
    for chunk in np.split(np.arange(len(index)), np.flatnonzero(np.diff(part)) + 1):
        counts = count[chunk]
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(index[chunk], counts), np.repeat(first[chunk], counts) + offset


def _sizes(objects: Objects) -> dict[Metric, np.ndarray]:
    """`(N,)` areas in the image (pixels squared) and on the ground (m^2), and volumes (m^3)."""
    width = objects.bbox[:, 2] - objects.bbox[:, 0]
    ground = _ground_size(objects, np.arange(len(objects.frame))).prod(1)
    return {
        "bbox": width * objects.height_px,
        "bev": ground,
        "3d": ground * objects.dimensions[:, 0],
    }


def _intersections(
    labels: Objects, detections: Objects, label: np.ndarray, detection: np.ndarray
) -> dict[Metric, np.ndarray]:
    """Intersection of each pair, `(P,)`: in the image (pixels squared), on the ground (m^2) and in
    space (m^3)."""
    bbox, other_bbox = labels.bbox[label], detections.bbox[detection]
    sides = np.minimum(bbox[:, 2:], other_bbox[:, 2:]) - np.maximum(bbox[:, :2], other_bbox[:, :2])
    ground = np.zeros(len(label))
    close = np.flatnonzero(_circles_touch(labels, detections, label, detection))
    ground[close] = _ground_intersection(labels, detections, label[close], detection[close])
    bottom, other_bottom = labels.location[label, 1], detections.location[detection, 1]
    # The camera's y axis points down: a box reaches from y - height to y.
    top = bottom - labels.dimensions[label, 0]
    other_top = other_bottom - detections.dimensions[detection, 0]
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    return {
        "bbox": np.maximum(sides, 0).prod(1),
        "bev": ground,
        "3d": ground * np.maximum(height, 0),
    }


def _ratio(inside: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(inside, whole, out=np.zeros_like(inside), where=inside > 0)


def _ground_size(objects: Objects, index: np.ndarray) -> np.ndarray:
    """`(P, 2)` length and width; 0 for an object without a 3D box, which KITTI writes as -1."""
    size = objects.dimensions[index][:, [2, 1]]
    areas = (objects.type[index] == DONT_CARE)[:, None]
    return np.where(areas, np.abs(size), np.maximum(size, 0))


def _circles_touch(
    labels: Objects, detections: Objects, label: np.ndarray, detection: np.ndarray
) -> np.ndarray:
    """`(P,)` the circles around both boxes, seen from above, touch: a cheap test, mostly False."""
    diameter = np.hypot(*_ground_size(labels, label).T)
    other_diameter = np.hypot(*_ground_size(detections, detection).T)
    offset = labels.location[label] - detections.location[detection]
    return np.hypot(offset[:, 0], offset[:, 2]) < (diameter + other_diameter) / 2


def _ground_intersection(
    labels: Objects, detections: Objects, label: np.ndarray, detection: np.ndarray
) -> np.ndarray:
    """`(P,)` area of the intersection of the boxes seen from above, square metres."""
    return intersection_area(_ground_boxes(detections, detection), _ground_boxes(labels, label))


def _ground_boxes(objects: Objects, index: np.ndarray) -> np.ndarray:
    """`(P, 5)` x, z, length, width and the angle from x to z, which is -rotation_y."""
    return np.column_stack(
        [
            objects.location[index][:, [0, 2]],
            _ground_size(objects, index),
            -objects.rotation_y[index],
        ]
    )
