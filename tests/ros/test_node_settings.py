"""What can be set while the node runs, and what it sets itself when memory runs out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_detector import FakeDetector, answer
from node_helpers import image_message
from node_setup import Setup, Start
from rclpy.parameter import Parameter


def change(setup: Setup, **values: float | bool) -> None:
    for result in setup.node.set_parameters([Parameter(k, value=v) for k, v in values.items()]):
        assert result.successful, result.reason


def published_points(setup: Setup) -> np.ndarray:
    """`(N, 4)` of one more image."""
    before = len(setup.camera.points)
    setup.send(image_message())
    setup.spinner.until("points", lambda: len(setup.camera.points) > before)
    return np.frombuffer(setup.camera.points[-1].data, np.float32).reshape(-1, 4)


def test_points_and_boxes_out_of_range_are_left_out(start: Start) -> None:
    places = [(3, 0), (12, 5), (12, 16.1), (20, 1)]
    points = np.array([[x, y, -1, 0.5] for x, y in places], np.float32)
    boxes = np.array([[x, y, -1.7, 4, 2, 1.5, 0] for x, y in places], np.float32)
    scores, labels = np.linspace(0.9, 0.5, 4, dtype=np.float32), np.zeros(4, np.int64)
    found = replace(answer(), points=points, boxes=boxes, scores=scores, labels=labels)
    setup = start(FakeDetector(found)).ready()
    assert len(published_points(setup)) == 4
    change(setup, min_range=5.0, max_range=20.0)
    np.testing.assert_array_equal(published_points(setup), points[[1]])
    setup.spinner.until("boxes", lambda: len(setup.camera.detections) == 2)
    (box,) = setup.camera.detections[1].detections
    assert box.results[0].hypothesis.score == pytest.approx(scores[1])
    change(setup, max_range=0.0)
    np.testing.assert_array_equal(published_points(setup), points[1:])


def test_points_near_the_ground_can_be_left_out(start: Start) -> None:
    points = np.array([[9, 0, z, 0.5] for z in (-1.9, -1.6, -1.4, 2.0)], np.float32)
    setup = start(FakeDetector(replace(answer(), points=points))).ready()
    change(setup, remove_ground=0.2)
    np.testing.assert_array_equal(published_points(setup), points[2:])


def test_the_sampling_ratio_reaches_the_detector_and_goes_back(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector).ready()
    ratios = []
    detector.before = lambda: ratios.append(detector.sampling_ratio)
    for asked in (0.0, 0.5, 0.0):
        change(setup, sampling_ratio=asked)
        setup.send(image_message())
    assert ratios == [0.1, 0.5, 0.1]
    (refused,) = setup.node.set_parameters([Parameter("sampling_ratio", value=1.5)])
    assert not refused.successful
    change(setup, sampling_ratio=0.5)
    setup.send(image_message())
    setup.node.trigger_deactivate()
    assert detector.sampling_ratio == 0.1


def test_out_of_memory_means_fewer_points_once_and_the_node_goes_on(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    detector = FakeDetector()
    setup = start(detector).ready()
    most = [0.07]

    def run_out() -> None:
        if detector.sampling_ratio > most[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    detector.before = run_out
    setup.send(image_message(), image_message())
    assert setup.node.counters.processed == 2
    assert setup.node.counters.noticed == {"out_of_memory": 1}
    assert "sampling_ratio goes from 0.1 to 0.05" in capfd.readouterr().err
    assert len(detector.calls) == 3  # the first image twice

    most[0] = 0.01  # still less: it isn't made smaller again, and the node goes on
    setup.send(image_message())
    assert setup.node.counters.failed == 1
    assert "CUDA out of memory" in setup.fresh_status().message
    most[0] = 1.0
    setup.send(image_message())
    assert setup.node.counters.processed == 3
    change(setup, sampling_ratio=0.2)
    setup.send(image_message())
    assert detector.sampling_ratio == 0.2
