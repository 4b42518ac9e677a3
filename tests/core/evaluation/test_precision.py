"""Precision and recall at one score, against cases counted by hand."""

import numpy as np
import pytest

from kd3d_core.errors import DataError
from kd3d_core.evaluation.precision import ClassScore, MatchRules, precision_recall
from kd3d_core.messages.types import ObjectBoxes

Row = tuple[str, float, float]  # class, metres ahead, score

NOTHING = ClassScore(0, 0, 0, 0, 0)


def boxes(*rows: Row, left: float = 0.0) -> ObjectBoxes:
    """Boxes of 4 x 2 m that point ahead."""
    return ObjectBoxes(
        0,
        "lidar",
        np.array([[x, left, -1.7, 4, 2, 1.5, 0] for _, x, _ in rows], np.float32).reshape(-1, 7),
        tuple(name for name, _, _ in rows),
        np.array([score for _, _, score in rows]),
    )


def cars(truth: list[Row], found: list[Row], **rules: float) -> ClassScore:
    """Score of the cars of one frame."""
    return precision_recall([boxes(*truth)], [boxes(*found)], MatchRules(**rules))["Car"]


def test_one_found_one_missed_one_wrong():
    score = cars([("Car", 10, 1), ("Car", 40, 1)], [("Car", 10.5, 0.9), ("Car", 25, 0.8)])
    assert score == ClassScore(labels=2, found=1, near_labels=1, near_found=1, wrong=1)
    assert (score.precision, score.recall, score.near_recall) == (0.5, 0.5, 1.0)


@pytest.mark.parametrize(
    # Two 4 m cars, s apart, share (4 - s) / (4 + s): 1/2 at 4/3 m.
    ("shift", "found"),
    [(0.0, 1), (1.3, 1), (1.36, 0), (5.0, 0)],
)
def test_overlap_decides(shift: float, found: int):
    score = cars([("Car", 10, 1)], [("Car", 10 + shift, 0.9)])
    assert (score.found, score.wrong) == (found, 1 - found)


def test_heading_counts_by_the_footprint_alone():
    crossed = boxes(("Car", 10, 0.9))
    crossed.boxes[:, 6] = np.pi / 2  # shares 4 of 12 m^2
    assert precision_recall([boxes(("Car", 10, 1))], [crossed])["Car"].found == 0
    crossed.boxes[:, [2, 6]] = [[30.0, np.pi]]  # height over ground isn't looked at
    assert precision_recall([boxes(("Car", 10, 1))], [crossed])["Car"].found == 1


def test_a_second_detection_of_a_car_is_wrong():
    score = cars([("Car", 10, 1)], [("Car", 10.4, 0.95), ("Car", 10, 0.5)])
    assert (score.found, score.wrong, score.precision) == (1, 1, 0.5)


def test_a_detection_finds_only_one_of_two_cars():
    score = cars([("Car", 10, 1), ("Car", 11, 1)], [("Car", 10.5, 0.9)])
    assert (score.found, score.wrong, score.recall) == (1, 0, 0.5)


def test_low_scores_are_left_out_and_the_threshold_itself_counts():
    found = [("Car", 10.0, 0.3), ("Car", 30.0, 0.29)]
    assert cars([("Car", 10, 1)], found) == ClassScore(1, 1, 1, 1, 0)
    assert cars([("Car", 10, 1)], found, min_score=0.2).wrong == 1
    assert cars([("Car", 10, 1)], found, min_score=0.31).found == 0


def test_near_is_over_ground_and_includes_its_border():
    truth = [boxes(("Car", 24, 1), ("Car", 24.001, 1), left=18.0)]  # 30 m: a 3-4-5 triangle
    score = precision_recall(truth, [boxes()])["Car"]
    assert (score.labels, score.near_labels, score.near_recall) == (2, 1, 0.0)


def test_a_van_is_neither_missed_nor_does_a_car_found_there_count():
    score = cars([("Van", 10, 1)], [("Car", 10, 0.9)])
    assert score == NOTHING
    assert score.precision is None
    assert score.recall is None
    # It excuses one detection, not two.
    assert cars([("Van", 10, 1)], [("Car", 10, 0.9), ("Car", 10.2, 0.8)]).wrong == 1
    # A car nearby comes first, although the van stands before it in the file.
    assert cars([("Van", 10, 1), ("Car", 10.5, 1)], [("Car", 10.1, 0.9)]).found == 1


def test_a_truck_excuses_no_car_and_classes_are_not_mixed():
    assert cars([("Truck", 10, 1)], [("Car", 10, 0.9)]).wrong == 1
    scores = precision_recall(
        [boxes(("Car", 10, 1), ("Person_sitting", 20, 1))],
        [boxes(("Cyclist", 10, 0.9), ("Pedestrian", 20, 0.9))],
    )
    assert scores == {
        "Car": ClassScore(1, 0, 1, 0, 0),
        "Pedestrian": NOTHING,
        "Cyclist": ClassScore(0, 0, 0, 0, 1),
    }


def test_frames_add_up_and_do_not_find_each_other():
    truth = [boxes(("Car", 10, 1)), boxes(), boxes(("Car", 20, 1), ("Car", 40, 1))]
    found = [boxes(), boxes(("Car", 10, 0.9)), boxes(("Car", 20, 0.9), ("Car", 40, 0.9))]
    assert precision_recall(truth, found)["Car"] == ClassScore(3, 2, 2, 1, 1)
    assert precision_recall([], [])["Car"] == NOTHING


def test_numbers_of_frames_must_agree():
    with pytest.raises(DataError, match="2 frames have labels, 1 detections"):
        precision_recall([boxes(), boxes()], [boxes()])
