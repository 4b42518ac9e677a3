"""KITTI's AP, by hand."""

import json
import math
from dataclasses import replace

import devkit
import numpy as np
import pytest
from hand_made_labels import CAR, DONT_CARE, ELSEWHERE, found, moved

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError
from kd3d_core.evaluation.kitti_ap import (
    CLASSES,
    METRICS,
    evaluate,
)


def car_ap(labels: list[Label], detections: list[Label], metric: str = "3d") -> float:
    """Easy R40 of one frame."""
    return evaluate([labels], [detections]).curves["car"][metric].r40[0]


def test_half_found_surely_and_half_found_among_as_many_wrong_ones() -> None:
    """50 cars, of which 25 have better scores than 25 wrong detections, and 25 worse ones."""
    detections = [[found(CAR, 0.9 - index / 1000)] for index in range(25)]
    detections += [[found(CAR, 0.4 - index / 1000), found(ELSEWHERE, 0.6)] for index in range(25)]
    curve = evaluate([[CAR]] * 50, detections).curves["car"]["3d"]
    # Precision is 1 up to recall 0.5, and 50 / 75 beyond.
    assert curve.r40 == pytest.approx((100 * (20 + 20 * 2 / 3) / 40,) * 3)
    assert curve.r11 == pytest.approx((100 * (6 + 5 * 2 / 3) / 11,) * 3)


def test_four_cars_two_of_them_found() -> None:
    cars = [moved(CAR, 5.0 * index, 120.0 * index) for index in range(4)]
    detections = [found(cars[0], 0.9), found(ELSEWHERE, 0.8), found(cars[1], 0.7)]
    curve = evaluate([cars], [detections]).curves["car"]["3d"]
    # Two scores, so two positions: precision 1 at recall 0 and 2 / 3 at 1/40.
    assert curve.values[0, :3].tolist() == pytest.approx([1, 2 / 3, 0])
    assert curve.r40[0] == pytest.approx(100 * 2 / 3 / 40)
    assert curve.r11[0] == pytest.approx(100 / 11)


@pytest.mark.parametrize("number", [1, 2, 10, 39, 40, 41, 60, 200])
def test_perfect_detections_get_one_position_per_car_and_41_at_most(number: int) -> None:
    scores = [1 - index / 1000 for index in range(number)]
    detections = [[found(CAR, score)] for score in scores]
    result = evaluate([[CAR]] * number, detections)
    positions = len(devkit.recall_thresholds(scores, number))
    assert positions == min(number, 41)
    for metric in METRICS:
        curve = result.curves["car"][metric]
        assert curve.r40 == pytest.approx((100 * (positions - 1) / 40,) * 3)
        assert curve.r11 == pytest.approx((100 * math.ceil(positions / 4) / 11,) * 3)


def test_real_labels_as_detections_are_never_wrong(tracking: KittiDataset) -> None:
    labels = [frame.labels() for frame in tracking]
    detections = [
        [replace(label, score=1.0) for label in frame if label.is_object] for frame in labels
    ]
    result = evaluate(labels, detections)
    for name in CLASSES:
        for level, count in enumerate(result.objects[name]):
            positions = len(devkit.recall_thresholds([1.0] * count, count))
            for metric in METRICS:
                values = result.curves[name][metric].values[level]
                expected = [1] * positions + [0] * (41 - positions) if count else [np.nan] * 41
                np.testing.assert_array_equal(values, expected)
    assert result.objects["car"][1] > 41
    assert result.curves["car"]["3d"].r40[1] == 100


def test_a_second_detection_of_a_car_is_wrong() -> None:
    cars = [CAR, moved(CAR, 10.0, 200.0)]
    once = [found(cars[0], 0.9), found(cars[1], 0.8)]
    assert car_ap(cars, once) == pytest.approx(100 / 40)
    assert car_ap(cars, [*once, found(cars[0], 0.8)]) == pytest.approx(100 / 40 * 2 / 3)


@pytest.mark.parametrize(
    ("turn", "similarity"), [(0, 1), (math.pi, 0), (math.pi / 2, 0.5), (2 * math.pi, 1)]
)
def test_orientation_similarity(turn: float, similarity: float) -> None:
    turned = [[found(replace(CAR, alpha=CAR.alpha + turn), 0.9 - i / 1000)] for i in range(50)]
    curves = evaluate([[CAR]] * 50, turned).curves["car"]
    assert curves["bbox"].r40[0] == 100
    assert curves["aos"].r40[0] == pytest.approx(100 * similarity)


def test_without_alpha_there_is_no_aos_and_the_json_says_null() -> None:
    result = evaluate([[CAR]], [[found(replace(CAR, alpha=-10.0), 0.9)]])
    assert np.isnan(result.curves["car"]["aos"].values).all()
    assert result.to_json()["car"]["aos"] == {"R40": [None] * 3, "R11": [None] * 3}
    assert result.to_json()["car"]["bbox"]["R11"][0] == pytest.approx(100 / 11)


def test_one_side_of_a_heading_is_as_good_as_the_other_but_for_aos() -> None:
    cars = [CAR, moved(CAR, 10.0, 200.0)]
    detections = [
        found(replace(car, rotation_y=car.rotation_y + math.pi), score)
        for car, score in zip(cars, (0.9, 0.8), strict=True)
    ]
    assert car_ap(cars, detections, "3d") == car_ap(cars, detections, "bev") == 100 / 40


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({}, (1, 1, 1)),
        ({"occluded": 1}, (0, 1, 1)),
        ({"occluded": 2}, (0, 0, 1)),
        ({"occluded": 3}, (0, 0, 0)),
        ({"truncated": 0.15}, (1, 1, 1)),
        ({"truncated": 0.16}, (0, 1, 1)),
        ({"truncated": 0.31}, (0, 0, 1)),
        ({"truncated": 0.51}, (0, 0, 0)),
        ({"bbox": (100.0, 100.0, 200.0, 140.0)}, (0, 1, 1)),
        ({"bbox": (100.0, 100.0, 200.0, 140.5)}, (1, 1, 1)),
        ({"bbox": (100.0, 100.0, 200.0, 125.0)}, (0, 0, 0)),
        ({"type": "Van"}, (0, 0, 0)),
        ({"type": "car"}, (1, 1, 1)),
    ],
)
def test_which_labels_count(change, levels: tuple[int, ...]) -> None:
    label = replace(CAR, **change)
    result = evaluate([[label]], [[found(replace(label, type="Car"), 1.0)]])
    assert result.objects["car"] == levels
    assert (result.curves["car"]["3d"].values[:, 0] > 0).tolist() == [bool(n) for n in levels]


@pytest.mark.parametrize("change", [{"type": "Van"}, {"occluded": 3}, {"truncated": 0.9}])
def test_a_detection_of_an_ignored_label_is_not_wrong(change) -> None:
    cars = [CAR, moved(CAR, 10.0, 200.0)]
    detections = [found(cars[0], 0.8), found(cars[1], 0.7), found(ELSEWHERE, 0.9)]
    assert car_ap(cars, detections) == pytest.approx(100 / 40 * 2 / 3)
    assert car_ap([*cars, replace(ELSEWHERE, **change)], detections) == pytest.approx(100 / 40)


def test_person_sitting_is_a_pedestrians_neighbour_and_nobody_a_cyclists() -> None:
    for name, neighbour, precision in (
        ("Pedestrian", "Person_sitting", 1),
        ("Cyclist", "Person_sitting", 0.5),
    ):
        one = replace(CAR, type=name)
        detections = [found(one, 0.8), found(replace(ELSEWHERE, type=name), 0.9)]
        labels = [one, replace(ELSEWHERE, type=neighbour)]
        curve = evaluate([labels], [detections]).curves[name.lower()]["3d"]
        assert curve.values[0, 0] == precision


def test_dont_care_areas_excuse_detections_in_the_image_only() -> None:
    cars = [CAR, moved(CAR, 10.0, 200.0)]
    detections = [found(cars[0], 0.8), found(cars[1], 0.7), found(ELSEWHERE, 0.9)]
    area = replace(DONT_CARE, bbox=ELSEWHERE.bbox)
    for metric in ("bbox", "bev", "3d"):
        assert car_ap(cars, detections, metric) == pytest.approx(100 / 40 * 2 / 3)
    assert car_ap([*cars, area], detections, "bbox") == pytest.approx(100 / 40)
    for metric in ("bev", "3d"):
        assert car_ap([*cars, area], detections, metric) == pytest.approx(100 / 40 * 2 / 3)
    far = replace(DONT_CARE, bbox=(900.0, 300.0, 1000.0, 370.0))
    assert car_ap([*cars, far], detections, "bbox") == pytest.approx(100 / 40 * 2 / 3)


def test_dont_care_areas_of_the_tracking_set_excuse_detections_in_bev_as_the_devkit_does() -> None:
    cars = [CAR, moved(CAR, 10.0, 200.0)]
    detections = [found(cars[0], 0.8), found(cars[1], 0.7), found(ELSEWHERE, 0.9)]
    area = replace(
        DONT_CARE, dimensions=(-1000.0,) * 3, location=(-10.0, -1.0, -1.0), rotation_y=-1.0
    )
    assert car_ap([*cars, area], detections, "bev") == pytest.approx(100 / 40)
    for metric in ("bbox", "3d"):
        assert car_ap([*cars, area], detections, metric) == pytest.approx(100 / 40 * 2 / 3)


def test_low_detections_of_any_class_are_neither_right_nor_wrong() -> None:
    cars = [CAR, moved(CAR, 10.0, 200.0)]
    right = [found(cars[0], 0.8), found(cars[1], 0.7)]
    low = found(replace(ELSEWHERE, bbox=(600.0, 100.0, 700.0, 124.0)), 0.9)
    assert car_ap(cars, [low, *right]) == pytest.approx(100 / 40)
    # It is assigned to the label, as a detection that doesn't count.
    low_on_car = replace(low, type="Truck", location=CAR.location)
    assert evaluate([[CAR]], [[low_on_car]]).curves["car"]["3d"].r11[0] == 0


def test_a_threshold_without_any_answer_has_precision_zero() -> None:
    """The labels swap detections between the passes; the devkit would divide 0 by 0."""
    low = found(replace(CAR, bbox=(100.0, 100.0, 200.0, 120.0)), 0.9)
    curve = evaluate([[replace(CAR, occluded=3), CAR]], [[low, found(CAR, 0.5)]]).curves["car"]
    assert curve["3d"].values[0].tolist() == [0] * 41


def test_overlap_must_exceed_the_minimum() -> None:
    half = replace(CAR, bbox=(100.0, 100.0, 170.0, 180.0))
    assert evaluate([[CAR]], [[found(half, 1.0)]]).curves["car"]["bbox"].r11[0] == 0
    more = replace(CAR, bbox=(100.0, 100.0, 170.1, 180.0))
    assert evaluate([[CAR]], [[found(more, 1.0)]]).curves["car"]["bbox"].r11[0] > 0


def test_loose_means_bev_and_3d_only() -> None:
    beside = found(moved(replace(CAR, rotation_y=0.0), 1.0, 25.0), 1.0)  # overlap 0.6 in each
    strict, loose = (
        evaluate([[replace(CAR, rotation_y=0.0)]], [[beside]], iou).curves["car"]
        for iou in ("strict", "loose")
    )
    found_strict, found_loose = (
        {metric: bool(curves[metric].r11[0]) for metric in METRICS} for curves in (strict, loose)
    )
    assert found_strict == dict.fromkeys(METRICS, False)
    assert found_loose == {"bbox": False, "aos": False, "bev": True, "3d": True}


def test_other_classes_do_not_matter() -> None:
    plain = evaluate([[CAR]], [[found(CAR, 1.0)]])
    truck = replace(ELSEWHERE, type="Truck")
    more = evaluate([[CAR, truck]], [[found(CAR, 1.0), found(truck, 0.5)]])
    assert more.to_json() == plain.to_json()


def test_nothing_found_is_0_and_nothing_to_find_is_undefined() -> None:
    for labels, detections in (
        ([[CAR]], [[]]),
        ([[]], [[found(CAR, 1.0)]]),
        ([[]], [[]]),
        ([], []),
    ):
        result = evaluate(labels, detections)
        has_car = bool(labels and labels[0])
        assert result.objects["car"] == (has_car,) * 3
        for name in CLASSES:
            expected = 0 if name == "car" and has_car else np.nan
            for metric in METRICS:
                curve = result.curves[name][metric]
                np.testing.assert_array_equal(curve.values, np.full((3, 41), expected))
                assert result.to_json()[name][metric]["R40"] == [None if expected else 0] * 3


def test_a_level_without_labels_is_undefined_and_the_others_are_not() -> None:
    hard = [replace(CAR, occluded=2)]
    result = evaluate([hard] * 50, [[found(CAR, 0.9)]] * 50)
    assert result.to_json()["car"]["3d"]["R40"] == [None, None, pytest.approx(100)]


def test_means_are_those_of_the_classes_that_have_labels() -> None:
    walker = replace(ELSEWHERE, type="Pedestrian", occluded=1)
    result = evaluate([[CAR, walker]] * 50, [[found(CAR, 0.9)]] * 50)
    assert result.mean_r40("3d", "moderate") == pytest.approx(50)
    assert result.mean_r40("3d", "easy") == pytest.approx(100)
    assert result.mean_r40("3d", "moderate", ["pedestrian", "cyclist"]) == 0
    assert result.mean_r40("3d", "moderate", ["cyclist", "truck"]) is None


def test_a_label_without_3d_box_is_never_found_in_3d() -> None:
    flat = replace(CAR, dimensions=(-1.0,) * 3, location=(-1000.0,) * 3)
    curves = evaluate([[flat]], [[found(flat, 1.0)]]).curves["car"]
    assert [curves[metric].r11[0] > 0 for metric in METRICS] == [True, True, False, False]


def test_shape_of_the_json() -> None:
    content = json.loads(json.dumps(evaluate([[CAR]], [[found(CAR, 1.0)]]).to_json()))
    assert list(content) == ["car", "pedestrian", "cyclist"]
    for metrics in content.values():
        assert list(metrics) == ["bbox", "aos", "bev", "3d"]
        for kinds in metrics.values():
            assert {kind: len(numbers) for kind, numbers in kinds.items()} == {"R40": 3, "R11": 3}


def test_mistakes_in_the_call() -> None:
    with pytest.raises(DataError, match="2 frames have labels, 1 detections"):
        evaluate([[], []], [[]])
    with pytest.raises(DataError, match="frame 1, counted from 0, has no score"):
        evaluate([[CAR], [CAR]], [[], [CAR]])
