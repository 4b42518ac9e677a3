"""Score thresholds with the best F1, against counting by hand."""

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.thresholds import best_thresholds


def label(name: str, x: float, score: float | None = None, bbox: str = "0 0 50 50") -> Label:
    """An object of a car's size, `x` metres to the right."""
    end = "" if score is None else f" {score}"
    return Label.parse(f"{name} 0 0 0 {bbox} 1.5 1.6 4.0 {x} 1.7 20.0 0{end}", "test")


def by_hand(right: list[float], wrong: list[float], labels: int) -> float:
    def f1(threshold: float) -> float:
        found, other = (sum(s >= threshold for s in scores) for scores in (right, wrong))
        return 2 * found / (2 * found + other + labels - found)

    return max((step / 100 for step in range(1, 100)), key=f1)


def test_the_best_threshold_weighs_wrong_against_missed():
    right, wrong = [0.9, 0.8, 0.55, 0.3], [0.6, 0.35, 0.32, 0.31, 0.2, 0.2, 0.1]
    truth = [[label("Car", 10 * place) for place in range(len(right) + 1)]]
    found = [
        [label("Car", 10 * place, score) for place, score in enumerate(right)]
        + [label("Car", 10 * place + 100, score) for place, score in enumerate(wrong)]
    ]
    best = by_hand(right, wrong, len(right) + 1)
    assert best == 0.36
    assert best_thresholds(truth, found, ["Car"]) == {"Car": best}


def test_frames_do_not_mix():
    truth = [[label("Car", 0)], []]
    found = [[label("Car", 0, 0.4)], [label("Car", 0, 0.6)]]
    # The wrong one scores higher, so both are shown.
    assert best_thresholds(truth, found, ["Car"]) == {"Car": 0.01}


def test_what_the_evaluation_ignores_counts_neither_way():
    """Vans, small detections and what lies in an area that nobody labelled aren't wrong."""
    area = Label.parse("DontCare -1 -1 -10 500 0 600 50 -1 -1 -1 -1000 -1000 -1000 -10", "test")
    truth = [[label("Car", 0), label("Van", 30), area]]
    found = [
        [
            label("Car", 0, 0.5),
            label("Car", 30, 0.45),
            label("Car", 60, 0.45, bbox="0 0 9 9"),
            label("Car", 90, 0.3),
            label("Car", 120, 0.45, bbox="510 0 560 50"),
        ]
    ]
    assert best_thresholds(truth, found, ["Car"]) == {"Car": 0.31}


def test_a_second_box_on_a_car_is_wrong():
    truth = [[label("Car", 0)]]
    found = [[label("Car", 0, 0.5), label("Car", 0.1, 0.4)]]
    assert best_thresholds(truth, found, ["Car"]) == {"Car": 0.41}


def test_classes_without_labels_or_right_detections():
    car, found_car = label("Car", 0), label("Car", 0, 0.5)
    cyclist, wrong_cyclist = label("Cyclist", 20), label("Cyclist", 60, 0.9)
    classes = ["Pedestrian", "Cyclist", "Car"]
    best = best_thresholds([[car, cyclist]], [[found_car, wrong_cyclist]], classes)
    assert best == {"Cyclist": 1.0, "Car": 0.01}
    assert best_thresholds([[car, cyclist]], [[wrong_cyclist]], classes) == {}
    assert best_thresholds([[car]], [[]], classes) == {}
