"""Overlaps against shapely's polygons and plain arithmetic, pair by pair."""

import math
from dataclasses import replace

import devkit
import numpy as np
import pytest

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.objects import Objects, overlapping_pairs, share_in_dont_care

METRICS = ("bbox", "bev", "3d")


def random_labels(random: np.random.Generator, number: int, kind: str) -> list[Label]:
    """Boxes from squares to planks, some upright or equal, close enough to meet."""
    labels = []
    for _ in range(number):
        left, top, width, height = random.uniform(10, 50, 4)
        labels.append(
            Label(
                kind,
                0.0,
                0,
                0.0,
                (left, top, left + width, top + height),
                tuple(random.uniform(0.1, 5, 3)),
                tuple(random.uniform(-3, 3, 3)),
                float(random.choice([0, math.pi / 2, random.uniform(-4, 4)])),
            )
        )
    return labels + labels[:2]


@pytest.fixture(params=range(3))
def frames(request: pytest.FixtureRequest) -> tuple[list[list[Label]], list[list[Label]]]:
    random = np.random.default_rng(request.param)
    labels = [random_labels(random, number, "Car") for number in (0, 4, 6)]
    detections = [random_labels(random, number, "Van") for number in (3, 5, 8)]
    # The same place and size, at any heading and half a turn from it.
    detections[1] += [
        replace(label, rotation_y=label.rotation_y + random.choice([0, math.pi]))
        for label in labels[1]
    ]
    return labels, detections


def test_all_pairs_that_overlap_and_by_how_much(frames) -> None:
    labels, detections = (Objects.from_frames(part) for part in frames)
    everything = np.arange(len(labels.frame))
    pairs = overlapping_pairs(labels, detections, everything, dict.fromkeys(METRICS, 0.0))
    for metric in METRICS:
        expected = np.zeros((len(labels.frame), len(detections.frame)))
        for frame, (own, others) in enumerate(zip(*frames, strict=True)):
            rows = np.flatnonzero(labels.frame == frame)
            columns = np.flatnonzero(detections.frame == frame)
            for row, label in zip(rows, own, strict=True):
                for column, detection in zip(columns, others, strict=True):
                    expected[row, column] = devkit.iou(metric, label, detection)
        answer = np.zeros_like(expected)
        answer[pairs[metric].label, pairs[metric].detection] = pairs[metric].overlap
        np.testing.assert_allclose(answer, expected, atol=1e-9)
        assert np.count_nonzero(expected) > 10


def test_pairs_are_in_order_and_above_the_minimum(frames) -> None:
    labels, detections = (Objects.from_frames(part) for part in frames)
    some = np.arange(1, len(labels.frame), 2)
    minimum = {"bbox": 0.3, "bev": 0.1, "3d": 0.05}
    for metric, pairs in overlapping_pairs(labels, detections, some, minimum).items():
        assert len(pairs.label)
        assert set(pairs.label) <= set(some)
        assert pairs.overlap.min() > minimum[metric]
        order = np.lexsort((pairs.detection, pairs.label))
        assert order.tolist() == list(range(len(order)))


def test_share_of_detections_in_areas(frames) -> None:
    labels, detections = frames
    areas = [[replace(label, type="DontCare") for label in frame] for frame in labels]
    share = share_in_dont_care(Objects.from_frames(areas), Objects.from_frames(detections))
    for metric in METRICS:
        expected = [
            max((devkit.share(metric, area, detection) for area in own), default=0)
            for own, others in zip(areas, detections, strict=True)
            for detection in others
        ]
        np.testing.assert_allclose(share[metric], expected, atol=1e-9)
        assert 0 < np.count_nonzero(expected) < len(expected)
