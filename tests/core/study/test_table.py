"""The table: means, spreads, differences and shares, from finished runs only."""

import csv
import json
import sys
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from kd3d_core.cli import ablate as command
from kd3d_core.study.plots import students_over_epochs
from kd3d_core.study.run import write_results
from kd3d_core.study.runs import student_runs
from kd3d_core.study.table import Spread, make_table
from kd3d_core.study.table_files import markdown


@pytest.fixture
def half_done(study, pretend):
    """The teacher, the control with both seeds, one seed of `both`, and a failure."""
    pretend("teacher", 0, 60, 80)
    pretend("control", 0, 20, 30, seconds=50)
    pretend("control", 1, 24, 36, seconds=70)
    pretend("both", 0, 25, 42)
    student_runs(study, ["both"], [1])[0].fail("step 3: cls is not finite")
    return study


def test_rows_compare_the_same_seeds(half_done):
    table = make_table(half_done)
    teacher, control, both = table.rows
    assert control.ap["car 0.7"] == Spread(22, pytest.approx(8**0.5))
    assert control.ap["car 0.5"] == Spread(33, pytest.approx(18**0.5))
    assert control.seconds == 60
    assert control.difference["car 0.7"] is None
    assert both.ap["car 0.5"] == Spread(42, None)
    # With seed 0 alone, as the control of seed 1 has nothing to be compared with.
    assert both.difference["car 0.5"] == Spread(12, None)
    assert both.gap_closed["car 0.5"] == pytest.approx(12 / 50)
    assert teacher.difference["car 0.5"] == Spread(47, pytest.approx(18**0.5))
    assert teacher.gap_closed["car 0.5"] is None
    assert (table.finished, table.planned) == (4, 5)


def test_a_class_without_objects_has_no_number(half_done):
    for row in make_table(half_done).rows:
        assert row.ap["cyclist 0.5"] is None
        assert row.gap_closed["cyclist 0.5"] is None


def test_no_share_is_told_where_the_teacher_is_not_ahead(study, pretend):
    pretend("teacher", 0, 10, 10)
    pretend("control", 0, 20, 30)
    pretend("both", 0, 25, 42)
    both = make_table(study).rows[2]
    assert both.difference["car 0.7"] == Spread(5, None)
    assert both.gap_closed["car 0.7"] is None


def test_readers_see_how_much_is_in_and_what_failed(half_done):
    text = markdown(make_table(half_done))
    assert "4 of 5 runs are in" in text
    assert "| control | 2 of 2 | 22.00 ± 2.83 | 33.00 ± 4.24 | 22.00 ± 2.83 | - | 60 |" in text
    assert "| both | 1 of 2 | 25.00 | 42.00 | 25.00 | - | 60 |" in text
    assert "| both | +5.00 (12%) | +12.00 (24%) | +5.00 (12%) | - |" in text
    assert "FAILED: both, seed 1: step 3: cls is not finite" in text
    assert "50 car (3 beyond the range)" in text


def test_files_are_written_and_the_command_only_rewrites_them(half_done, tmp_path, monkeypatch):
    write_results(half_done)
    out = Path(half_done.out)
    (out / "table.md").unlink()
    monkeypatch.setattr(sys, "argv", ["kd3d-ablate", str(tmp_path / "study.yaml"), "--table"])
    assert command.main() == 0
    assert (out / "table.md").read_text() == markdown(make_table(half_done))
    rows = {row["name"]: row for row in json.loads((out / "table.json").read_text())["rows"]}
    assert rows["both"]["difference"]["car 0.5"] == {"mean": 12.0, "deviation": None}
    lines = list(csv.DictReader((out / "table.csv").open()))
    assert [(line["variant"], line["seed"], line["car 0.5"]) for line in lines][1] == (
        "control", "0", "30.0000",
    )  # fmt: skip
    for name in ("ap.png", "epochs.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_pictures_show_students_by_metric_over_the_epochs(half_done):
    for seed, ap in ((0, 20.0), (1, 24.0)):
        folder = Path(half_done.out) / "runs" / "control" / f"seed{seed}" / "tensorboard"
        with SummaryWriter(str(folder)) as writer:
            for step, value in ((50, ap / 2), (100, ap)):
                writer.add_scalar("val/Car_3d_loose", value, step)
    lines = students_over_epochs(make_table(half_done))
    assert lines["car 0.5"] == {"control": [([2, 4], (10, 20)), ([2, 4], (12, 24))]}
    assert lines["car 0.7"] == {}


def test_a_study_without_any_run_has_a_table_too(study):
    write_results(study)
    assert "0 of 5 runs are in" in (Path(study.out) / "table.md").read_text()


def test_a_table_of_nothing_is_one_line(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kd3d-ablate", str(tmp_path / "study.yaml"), "--table"])
    assert command.main() == 1
    said = capsys.readouterr().err
    assert (
        said == f"kd3d-ablate: {study.out} has no runs yet: give the same command without --table\n"
    )
    assert not Path(study.out).exists()


def test_runs_of_other_code_are_said(study, pretend):
    pretend("teacher", 0, 60, 80)
    pretend("control", 0, 20, 30)
    assert "REVISION" not in markdown(make_table(study))
    pretend("control", 1, 20, 30, revision="def")
    assert "NOT OF ONE REVISION: runs were trained by abc (2), def (1)" in markdown(
        make_table(study)
    )


def test_a_run_of_uncommitted_code_is_said(study, pretend):
    pretend("control", 0, 20, 30, revision="abc-dirty")
    assert "runs were trained by abc-dirty (1)" in markdown(make_table(study))


def test_the_teacher_alone_is_asked_for_however_often(study):
    assert [run.name for run in command._chosen(study, ["teacher", "teacher"], [])] == [
        "teacher, seed 0"
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--only", "bth"], "--only bth: the study has teacher, control, both"),
        (["--seeds", "7"], "--seeds 7: the study has 0, 1"),
    ],
)
def test_unknown_names_are_one_line(study, tmp_path, monkeypatch, capsys, words, reason):
    monkeypatch.setattr(sys, "argv", ["kd3d-ablate", str(tmp_path / "study.yaml"), *words])
    assert command.main() == 1
    assert capsys.readouterr().err == f"kd3d-ablate: {reason}\n"
