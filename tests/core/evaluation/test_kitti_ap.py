import gzip
import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import devkit
import numpy as np
import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError
from kd3d_core.evaluation.kitti_ap import (
    CLASSES,
    LEVELS,
    METRICS,
    KittiAP,
    evaluate,
    evaluate_both,
    min_overlap,
)

CAR = Label(
    "Car", 0.0, 0, 0.3, (100.0, 100.0, 200.0, 180.0), (1.5, 1.6, 4.0), (2.0, 1.7, 20.0), 0.4
)
DONT_CARE = Label("DontCare", -1.0, -1, -10.0, (0.0,) * 4, (-1.0,) * 3, (-1000.0,) * 3, -10.0)


def found(label: Label, score: float) -> Label:
    return replace(label, truncated=-1.0, occluded=-1, score=score)


def moved(label: Label, metres: float, pixels: float = 0.0) -> Label:
    """The label elsewhere: `metres` to the right and `pixels` to the right in the image."""
    left, top, right, bottom = label.bbox
    x, y, z = label.location
    return replace(
        label,
        bbox=(left + pixels, top, right + pixels, bottom),
        location=(x + metres, y, z),
    )


ELSEWHERE = moved(CAR, 50.0, 500.0)


# -- against the official devkit -----------------------------------------------------------------


def read_frames(path: Path) -> dict[str, list[Label]]:
    frames = defaultdict(list)
    with gzip.open(path, "rt") as file:
        for number, line in enumerate(file, 1):
            name, _, text = line.partition(" ")
            frames[name].append(Label.parse(text, f"{path}:{number}"))
    return frames


@pytest.fixture(scope="module")
def recorded(kitti_eval: Path) -> tuple[list[list[Label]], list[list[Label]]]:
    labels = read_frames(kitti_eval / "track_small_gt.txt.gz")
    detections = read_frames(kitti_eval / "track_small_det.txt.gz")
    names = sorted(labels)
    return [labels[name] for name in names], [detections[name] for name in names]


@pytest.fixture(scope="module")
def result(recorded) -> KittiAP:
    return evaluate(*recorded)


@pytest.mark.parametrize("kind", ["R11", "R40"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", CLASSES)
def test_equals_the_official_devkit(
    result: KittiAP, kitti_eval: Path, name: str, metric: str, kind: str
) -> None:
    expected = json.loads((kitti_eval / "expected.json").read_text())["ap"]
    np.testing.assert_allclose(
        result.to_json()[name][metric][kind], expected[f"{name}_{metric}"][kind], atol=1e-3
    )


def values(result: KittiAP) -> np.ndarray:
    """Every curve: class, metric, level, recall."""
    return np.array(
        [[result.curves[name][metric].values for metric in METRICS] for name in CLASSES]
    )


def test_order_of_frames_does_not_matter(recorded, result: KittiAP) -> None:
    order = np.random.default_rng(0).permutation(len(recorded[0]))
    shuffled = evaluate(*([frames[index] for index in order] for frames in recorded))
    np.testing.assert_allclose(values(shuffled), values(result), atol=1e-12)


def test_only_the_order_of_scores_matters(recorded, result: KittiAP) -> None:
    labels, detections = recorded
    squeezed = [
        [replace(detection, score=math.atan(detection.score)) for detection in frame]
        for frame in detections
    ]
    np.testing.assert_array_equal(values(evaluate(labels, squeezed)), values(result))


def test_work_is_done_in_parts_with_the_same_result(
    recorded, result: KittiAP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd3d_core.evaluation.objects._PAIRS_AT_ONCE", 7)
    labels, detections = (frames[:60] for frames in recorded)
    parts = evaluate(labels, detections)
    monkeypatch.undo()
    np.testing.assert_array_equal(values(parts), values(evaluate(labels, detections)))


# -- against the rules, one by one ---------------------------------------------------------------


def random_label(random: np.random.Generator, types: list[str]) -> Label:
    left, top = random.uniform(0, 60, 2)
    height = random.choice([24.0, 25.0, 30.0, 40.0, 41.0, 60.0])
    width = random.uniform(20, 60)
    return Label(
        str(random.choice(types)),
        float(random.choice([0.0, 0.15, 0.2, 0.4, 0.6])),
        int(random.integers(0, 4)),
        random.uniform(-math.pi, math.pi),
        (left, top, left + width, top + height),
        (random.uniform(1, 2), random.uniform(0.5, 2), random.uniform(0.5, 4)),
        (random.uniform(-3, 3), random.uniform(1, 2), random.uniform(8, 14)),
        random.uniform(-math.pi, math.pi),
    )


def near(label: Label, random: np.random.Generator, types: list[str]) -> Label:
    """A detection that often, and not always, is right for the label; scores often are equal."""

    def shaken(numbers: tuple[float, ...], by: float) -> tuple[float, ...]:
        return tuple(number + random.normal(0, by) for number in numbers)

    return replace(
        label,
        type=label.type if random.random() < 0.7 else str(random.choice(types)),
        alpha=label.alpha + random.normal(0, 1),
        bbox=shaken(label.bbox, random.choice([0.0, 1.0, 4.0])),  # type: ignore[arg-type]
        location=shaken(label.location, 0.1),  # type: ignore[arg-type]
        rotation_y=label.rotation_y + random.normal(0, 0.1),
        score=float(random.integers(0, 8)) / 8,
    )


def random_frames(seed: int, number: int) -> list[tuple[list[Label], list[Label]]]:
    """Crowded frames, in which labels compete for detections and the other way round."""
    random = np.random.default_rng(seed)
    types = ["Car", "car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "Truck"]
    frames = []
    for _ in range(number):
        labels = [random_label(random, types) for _ in range(random.integers(0, 7))]
        labels += [near(label, random, types) for label in labels if random.random() < 0.3]
        areas = [random_label(random, ["DontCare"]) for _ in range(random.integers(0, 2))]
        detections = [near(label, random, types) for label in labels + labels]
        detections += [
            replace(random_label(random, types), score=random.random())
            for _ in range(random.integers(0, 3))
        ]
        frames.append(([replace(label, score=None) for label in labels + areas], detections))
    return frames


@pytest.mark.parametrize("iou", ["strict", "loose"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_rules_applied_one_by_one(seed: int, iou) -> None:
    frames = random_frames(seed, 25)
    result = evaluate([frame[0] for frame in frames], [frame[1] for frame in frames], iou)
    for name in CLASSES:
        for metric in ("bbox", "bev", "3d"):
            for level in range(3):
                minimum = min_overlap(iou, name, metric)
                precision, similarity = devkit.curves(frames, name, level, metric, minimum)
                where = f"{name} {metric} {LEVELS[level]}"
                curves = result.curves[name]
                if not result.objects[name][level]:
                    assert np.isnan(curves[metric].values[level]).all(), where
                    continue
                np.testing.assert_allclose(curves[metric].values[level], precision, err_msg=where)
                if metric == "bbox":
                    np.testing.assert_allclose(
                        curves["aos"].values[level], similarity, err_msg=where, atol=1e-12
                    )


# -- by hand -------------------------------------------------------------------------------------


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


def test_both_at_once_is_each_of_them(recorded, result: KittiAP) -> None:
    strict, loose = evaluate_both(*recorded)
    assert (strict.iou, loose.iou) == ("strict", "loose")
    np.testing.assert_array_equal(values(strict), values(result))
    np.testing.assert_array_equal(values(loose), values(evaluate(*recorded, "loose")))


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
