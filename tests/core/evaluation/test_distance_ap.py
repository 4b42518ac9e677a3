"""AP by centre distance: against nuScenes's rules in plain loops, and by hand."""

from dataclasses import replace

import numpy as np
import pytest

from kd3d_core.data.kitti import Label
from kd3d_core.errors import DataError
from kd3d_core.evaluation.distance_ap import THRESHOLDS_M, distance_ap
from kd3d_core.evaluation.validation import RANKED_METRICS, validation_metrics

CAR = Label(
    "Car", 0.0, 0, 0.3, (100.0, 100.0, 200.0, 180.0), (1.5, 1.6, 4.0), (2.0, 1.7, 20.0), 0.4
)


def at(x: float, z: float, score: float | None = None, **changes) -> Label:
    return replace(CAR, location=(x, 1.7, z), score=score, **changes)


def nuscenes_ap(truth, found, name, threshold, min_recall, min_precision) -> float:
    """`accumulate` and `calc_ap` of nuscenes-devkit's detection evaluation, one box at a time."""
    total = sum(label.type == name for frame in truth for label in frame)
    boxes = [(frame, label) for frame, labels in enumerate(found) for label in labels]
    boxes = [(frame, label) for frame, label in boxes if label.type == name]
    order = sorted((label.score, index) for index, (_, label) in enumerate(boxes))[::-1]
    taken, hits = set(), []
    for _, index in order:
        frame, box = boxes[index]
        best, match = np.inf, None
        for number, label in enumerate(truth[frame]):
            if label.type == name and (frame, number) not in taken:
                distance = np.hypot(
                    label.location[0] - box.location[0], label.location[2] - box.location[2]
                )
                if distance < best:
                    best, match = distance, number
        hits.append(best < threshold)
        if hits[-1]:
            taken.add((frame, match))
    if not any(hits):
        return 0.0
    right = np.cumsum(hits).astype(float)
    wrong = np.cumsum(~np.array(hits)).astype(float)
    precision = right / (right + wrong)
    recall = right / total
    precision = np.interp(np.linspace(0, 1, 101), recall, precision, right=0)
    precision = precision[round(100 * min_recall) + 1 :] - min_precision
    precision[precision < 0] = 0
    return float(precision.mean()) / (1 - min_precision)


@pytest.mark.parametrize("limits", [(0.1, 0.1), (0, 0)])
@pytest.mark.parametrize("seed", range(4))
def test_equals_nuscenes_rules_applied_one_by_one(seed: int, limits) -> None:
    random = np.random.default_rng(seed)

    def objects(count: int, scored: bool) -> list[Label]:
        return [
            at(
                *random.uniform((-6, 8), (6, 20)),
                score=int(random.integers(0, 9)) / 8 if scored else None,
                type=str(random.choice(["Car", "Pedestrian"])),
            )
            for _ in range(count)
        ]

    truth = [objects(random.integers(0, 6), False) for _ in range(20)]
    found = [objects(random.integers(0, 9), True) for _ in range(20)]
    for name, ap in distance_ap(truth, found, ["Car", "Pedestrian"], *limits).items():
        expected = [nuscenes_ap(truth, found, name, each, *limits) for each in THRESHOLDS_M]
        assert 0 < np.mean(expected) < 1
        assert ap == pytest.approx(100 * np.mean(expected))


def test_each_label_is_found_once_and_the_surest_detection_chooses_first() -> None:
    far, near = at(3.5, 20, 0.9), at(2, 20, 0.8)
    # The surer one is 1.5 m off: right at 2 and 4 m, and there the nearer one is wrong.
    assert distance_ap([[CAR]], [[far]], ["Car"], 0, 0) == {"Car": 50}
    both = distance_ap([[CAR]], [[far, near]], ["Car"], 0, 0)["Car"]
    # At 0.5 and 1 m the sure one is wrong and the other right: precision rises from 0 at recall 0
    # to 1/2 at 1. At 2 and 4 m it is 1, but for 1/2 at recall 1, which both have.
    assert both == pytest.approx((25.25 + 25.25 + 99.5 + 99.5) / 4)


def test_only_distance_over_ground_counts() -> None:
    high = replace(at(2, 20, 0.9), location=(2.0, -8.0, 20.0), dimensions=(9.0, 9.0, 9.0))
    assert distance_ap([[CAR]], [[high]], ["Car"]) == {"Car": pytest.approx(100)}


def test_labels_without_3d_box_and_absent_classes_have_no_ap() -> None:
    flat = at(2, 20, dimensions=(0.0,) * 3)
    for labels in ([], [flat], [at(2, 20, type="DontCare", dimensions=(-1.0,) * 3)]):
        assert distance_ap([labels], [[at(2, 20, 0.9)]], ["Car"]) == {"Car": None}
    assert distance_ap([[CAR, flat]], [[at(2, 20, 0.9)]], ["car"]) == {"car": pytest.approx(100)}
    assert distance_ap([[CAR]], [[]], ["Car"]) == {"Car": 0}


def test_mistakes_in_the_call() -> None:
    with pytest.raises(DataError, match="2 frames have labels, 1 detections"):
        distance_ap([[], []], [[]], ["Car"])
    with pytest.raises(DataError, match="frame 0, counted from 0, has no score"):
        distance_ap([[]], [[CAR]], ["Car"])


def test_ranked_metrics_move_one_after_the_other() -> None:
    cars = [[at(2, 20)] for _ in range(50)]

    def ranks(x: float, score: float = 0.9) -> list[float | None]:
        found = [[at(x, 20, score)] for _ in range(50)]
        metrics = validation_metrics(cars, found, ["Car", "Cyclist"])
        return [metrics[name] for name in RANKED_METRICS]

    nothing, far, close, exact = ranks(40), ranks(3.5), ranks(2.6), ranks(2)
    assert nothing == [0, 0, 0]
    assert far == [0, 0, pytest.approx(50)]
    assert close == [0, pytest.approx(100), pytest.approx(75)]
    assert exact == [pytest.approx(100)] * 3
    assert nothing < far < close < exact


def test_one_right_detection_among_many_wrong_moves_the_last_metric() -> None:
    cars = [[at(2, 20)] for _ in range(50)]
    found = [[at(40, 20, 0.9)] * 20 for _ in range(50)]
    found[0] = [at(2, 23, 0.5)]
    assert 0 < validation_metrics(cars, found, ["Car"])["mAP_distance"] < 1
    assert distance_ap(cars, found, ["Car"]) == {"Car": 0}


def test_classes_without_labels_do_not_enter_means() -> None:
    cars = [[at(2, 20)] for _ in range(50)]
    found = [[at(2, 20, 0.9)] for _ in range(50)]
    metrics = validation_metrics(cars, found, ["Car", "Pedestrian", "Cyclist", "Truck"])
    assert [metrics[name] for name in RANKED_METRICS] == [pytest.approx(100)] * 3
    for name in ("Pedestrian", "Cyclist", "Truck"):
        for metric in ("3d", "bev", "3d_loose", "distance"):
            assert metrics[f"{name}_{metric}"] is None
    nothing = validation_metrics([[]] * 3, [[]] * 3, ["Car"])
    assert set(nothing.values()) == {None}


def test_labels_without_2d_box_are_ranked_by_distance() -> None:
    cars = [[at(2, 20, bbox=(0.0,) * 4)] for _ in range(50)]
    metrics = validation_metrics(cars, [[at(2.2, 20, 0.9)] for _ in range(50)], ["Car"])
    assert [metrics[name] for name in RANKED_METRICS] == [None, None, pytest.approx(100)]
