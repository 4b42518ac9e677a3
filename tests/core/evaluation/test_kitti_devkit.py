"""KITTI's AP against the official devkit, and against its rules applied one by one."""

import gzip
import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import devkit
import numpy as np
import pytest

from kd3d_core.data.labels import Label
from kd3d_core.evaluation.kitti_ap import (
    CLASSES,
    LEVELS,
    METRICS,
    KittiAP,
    evaluate,
    evaluate_both,
    min_overlap,
)


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


def test_both_at_once_is_each_of_them(recorded, result: KittiAP) -> None:
    strict, loose = evaluate_both(*recorded)
    assert (strict.iou, loose.iou) == ("strict", "loose")
    np.testing.assert_array_equal(values(strict), values(result))
    np.testing.assert_array_equal(values(loose), values(evaluate(*recorded, "loose")))


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
