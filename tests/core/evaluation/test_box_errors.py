"""Errors of boxes by distance: drawn with known spreads, and found again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from kd3d_core.cli.eval import errors
from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.evaluation.box_errors import measure_box_errors
from kd3d_core.models.box_errors import BoxErrors, box_covariances

CAR = Label("Car", 0.0, 0, 0.0, (0.0, 0.0, 9.0, 9.0), (1.5, 1.6, 4.0), (0.0, 1.7, 20.0), 3.0)


def seen(distance: float, angle: float, along: float, across: float, score: float) -> list[Label]:
    """A car and what is found of it, `angle` to the right of straight ahead."""
    ray, side = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    truth, found = distance * ray, (distance + along) * ray + across * side
    car = replace(CAR, location=(truth[0], 1.7, truth[1]))
    # A yaw that goes over the turn, and a box that is 0.2 m higher and 0.2 m taller.
    return [car, replace(
        car, location=(found[0], 1.5, found[1]), score=score, rotation_y=-3.0,
        dimensions=(1.7, 1.6, 4.0),
    )]  # fmt: skip


def test_spreads_are_found_again_along_and_across_the_line_of_sight() -> None:
    random = np.random.default_rng(0)
    frames = [
        seen(distance, random.uniform(-0.6, 0.6), *random.normal(0, [sigma, 0.1]), score=0.9)
        for distance, sigma in [(15.0, 0.3), (25.0, 0.9)] * 500
    ]
    truth, found = ([[pair[index]] for pair in frames] for index in (0, 1))
    near, far = measure_box_errors(truth, found, {}, [20, 30, 40])
    assert (near.to_m, near.boxes, far.to_m, far.boxes) == (20.0, 500, 30.0, 500)
    assert near.along_m == pytest.approx(0.3, rel=0.1)
    assert far.along_m == pytest.approx(0.9, rel=0.1)
    assert near.across_m == pytest.approx(0.1, rel=0.1)
    assert near.up_m == pytest.approx(0.3)  # 0.2 m, and half of 0.2 m
    assert near.yaw_rad == pytest.approx(2 * np.pi - 6, abs=1e-3)


def test_false_detections_are_no_errors_and_short_rows_go_into_the_next() -> None:
    good = seen(15.0, 0.0, 0.5, 0.0, 0.9)
    far_off = seen(15.0, 0.0, 2.5, 0.0, 0.8)  # more than 15 % and 2 m
    weak = seen(25.0, 0.0, 1.0, 0.0, 0.2)
    truth = [[good[0]], [far_off[0]], [weak[0]], [good[0]]]
    found = [[good[1]], [far_off[1]], [weak[1]], [replace(good[1], type="Cyclist")]]
    (row,) = measure_box_errors(truth, found, {}, [20, 30], fewest=2)
    assert (row.to_m, row.boxes) == (30.0, 2)
    assert row.along_m == pytest.approx(np.sqrt((0.5**2 + 1) / 2), abs=1e-3)
    (row,) = measure_box_errors(truth, found, {"Car": 0.5}, [20, 30], fewest=1)
    assert (row.to_m, row.boxes, row.along_m) == (20.0, 1, 0.5)
    with pytest.raises(DataError, match="1 detections belong to labels"):
        measure_box_errors(truth, found, {"Car": 0.5}, [20], fewest=2)


def test_covariances_are_turned_into_the_line_of_sight() -> None:
    table = [BoxErrors(50.0, 9, along_m=3.0, across_m=1.0, up_m=0.5, yaw_rad=0.1)]
    angle = 0.3
    box = np.array([[20 * np.cos(angle) + 1, 20 * np.sin(angle) + 2, 0, 4, 2, 1.5, 0]])
    (covariance,) = box_covariances(table, box, np.array([1.0, 2.0]))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(covariance[:2, :2], turn @ np.diag([9, 1]) @ turn.T, atol=1e-12)


def test_the_command_prints_lines_for_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, index in (("labels", 0), ("found", 1)):
        (tmp_path / name).mkdir()
        label = seen(15.0, 0.0, 0.5, 0.0, 0.9)[index]
        (tmp_path / name / "000000.txt").write_text(str(label) + "\n")
    folders = {"labels": tmp_path / "labels", "detections": tmp_path / "found"}
    errors(**folders, origin="one frame", fewest=1)
    card = yaml.safe_load(capsys.readouterr().out)["card"]
    assert card["box_errors_from"] == "one frame"
    assert card["box_errors"][0]["along_m"] == 0.5
    with pytest.raises(Kd3dError, match="rising distances"):
        errors(**folders, origin="one frame", borders=["20", "10"])
