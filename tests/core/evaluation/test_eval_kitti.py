"""`kd3d-eval kitti`: files in, tables, notes, JSON and one-line errors out."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.cli import eval as command

CAR = "Car 0.00 0 0.30 100.00 100.00 200.00 180.00 1.50 1.60 4.00 2.00 1.70 20.00 0.40"
OTHER = "Car 0.00 0 0.30 500.00 100.00 600.00 180.00 1.50 1.60 4.00 40.00 1.70 20.00 0.40"

DONT_CARE = "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command; exit status, standard output and standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kd3d-eval", *map(str, args)])
        status = command.main()
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three frames of two cars each; all are found, and one detection of the last is wrong."""
    labels, detections = tmp_path / "labels", tmp_path / "detections"
    labels.mkdir()
    detections.mkdir()
    for index in range(3):
        (labels / f"{index:06}.txt").write_text(f"{CAR}\n{OTHER}\n")
        (detections / f"{index:06}.txt").write_text(f"{CAR} 0.9{index}\n{OTHER} 0.8{index}\n")
    with (detections / "000002.txt").open("a") as file:
        file.write(OTHER.replace("40.00", "60.00").replace("500.00", "800.00") + " 0.99\n")
    return labels, detections


def test_the_recorded_frames_from_files(kitti_eval: Path, run, tmp_path: Path) -> None:
    for kind, name in (("gt", "labels"), ("det", "detections")):
        (tmp_path / name).mkdir()
        with gzip.open(kitti_eval / f"track_small_{kind}.txt.gz", "rt") as lines:
            for line in lines:
                frame, _, text = line.partition(" ")
                with (tmp_path / name / f"{frame}.txt").open("a") as file:
                    file.write(text)
    status, output, errors = run(
        *("kitti", "--labels", tmp_path / "labels", "--detections", tmp_path / "detections"),
        *("--json", tmp_path / "ap.json"),
    )
    assert (status, errors) == (0, "")
    written = json.loads((tmp_path / "ap.json").read_text())
    expected = json.loads((kitti_eval / "expected.json").read_text())["ap"]
    assert {f"{name}_{metric}" for name in written for metric in written[name]} == set(expected)
    for key, kinds in expected.items():
        name, metric = key.split("_")
        for kind, numbers in kinds.items():
            np.testing.assert_allclose(written[name][metric][kind], numbers, atol=0.01)
    assert "393 frames, strict IoU" in output
    row = next(line for line in output.splitlines() if line.startswith("car         3d"))
    assert row.split()[2:] == ["0.7", "92.76", "86.96", "85.07", "89.32", "86.38", "80.63"]
    assert "DontCare lines have the tracking set's -1000" in output


def test_notes_say_what_limits_the_numbers(folders, run) -> None:
    labels, detections = folders
    (detections / "000001.txt").unlink()
    (detections / "000009.txt").write_text("")
    status, output, _ = run("kitti", "--labels", labels, "--detections", detections)
    assert status == 0
    assert f"1 of 3 frames have no file in {detections}" in output
    assert "the first is 000001" in output
    assert "1 detection files have no labels and were left out, the first is 000009" in output
    assert "car easy (6 objects, at most 12.5)" in output
    assert "DontCare" not in output
    pedestrian = next(line for line in output.splitlines() if line.startswith("pedestrian"))
    assert pedestrian.split()[3:] == ["-"] * 6


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("100.00 100.00 200.00 180.00", "0 0 0 0", "of 3 labels, 3 without 2D box"),
        ("180.00", "125.00", "of 3 labels, 3 at most 25 px high"),
        ("0.00 0", "0.00 3", "of 3 labels, 3 occluded beyond 2"),
        ("0.00 0", "0.60 0", "of 3 labels, 3 truncated by more than 0.5"),
    ],
)
def test_why_no_object_counts(run, tmp_path: Path, old: str, new: str, note: str) -> None:
    labels, detections = tmp_path / "labels", tmp_path / "detections"
    labels.mkdir()
    detections.mkdir()
    for index in range(3):
        (labels / f"{index:06}.txt").write_text(f"{CAR.replace(old, new, 1)}\nVan{CAR[3:]}\n")
        (detections / f"{index:06}.txt").write_text(f"{CAR} 0.9\n")
    result = tmp_path / "ap.json"
    status, output, _ = run(
        "kitti", "--labels", labels, "--detections", detections, "--json", result
    )
    assert status == 0
    assert f"note: car has no AP (easy, moderate, hard): {note}\n" in output
    assert (
        "note: pedestrian, cyclist have no AP: no label has the class; there are 3 car, 3 van\n"
        in output
    )
    rows = [line.split() for line in output.splitlines() if line.startswith("car")]
    assert [row[3:] for row in rows[:4]] == [["-"] * 6] * 4
    assert json.loads(result.read_text())["car"]["3d"] == {"R40": [None] * 3, "R11": [None] * 3}


def test_reasons_are_those_of_the_hardest_level_without_labels(run, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "detections").mkdir()
    hidden, low = CAR.replace("0.00 0", "0.00 2"), CAR.replace("180.00", "110.00", 1)
    (tmp_path / "labels" / "000000.txt").write_text(f"{hidden}\n{hidden}\n{low}\n")
    _, output, _ = run(
        *("kitti", "--labels", tmp_path / "labels", "--detections", tmp_path / "detections")
    )
    assert (
        "car has no AP (easy, moderate): of 3 labels, 1 at most 25 px high, 2 occluded beyond 1\n"
        in output
    )
    (tmp_path / "labels" / "000000.txt").write_text(DONT_CARE)
    _, output, _ = run(
        *("kitti", "--labels", tmp_path / "labels", "--detections", tmp_path / "detections")
    )
    assert (
        "note: car, pedestrian, cyclist have no AP: there is no label in any of 1 frames\n"
        in output
    )


def test_ids_choose_frames(folders, run, tmp_path: Path) -> None:
    labels, detections = folders
    (tmp_path / "ids.txt").write_text("000001\n000000\n")
    arguments = ["kitti", "--labels", labels, "--detections", detections]
    _, output, _ = run(*arguments, "--ids", tmp_path / "ids.txt", "--json", tmp_path / "some.json")
    assert "2 frames" in output
    assert "left out" not in output
    run(*arguments, "--json", tmp_path / "all.json")
    some, every = (
        json.loads((tmp_path / name).read_text())["car"]["3d"]["R40"][0]
        for name in ("some.json", "all.json")
    )
    assert some == pytest.approx(100 * 3 / 40)
    assert every == pytest.approx(100 * 5 / 40 * 6 / 7)  # the wrong one is surest of all


def test_iou_is_chosen_and_named(folders, run) -> None:
    labels, detections = folders
    for iou, minimum in (("strict", "0.7"), ("loose", "0.5")):
        _, output, _ = run("kitti", "--labels", labels, "--detections", detections, "--iou", iou)
        assert f"3 frames, {iou} IoU" in output
        assert f"car         3d      {minimum}" in output
        assert "car         bbox    0.7" in output


def test_no_detections_at_all_score_zero(folders, run, tmp_path: Path) -> None:
    labels, _ = folders
    (tmp_path / "nothing").mkdir()
    status, output, _ = run("kitti", "--labels", labels, "--detections", tmp_path / "nothing")
    assert status == 0
    assert f"{tmp_path / 'nothing'} holds no detection file (*.txt), so all frames" in output
    assert "frames have no file" not in output
    row = next(line for line in output.splitlines() if line.startswith("car         3d"))
    assert row.split()[3:] == ["0.00"] * 6


def test_bad_lines_are_named_with_file_line_and_field(folders, run) -> None:
    labels, detections = folders
    broken = detections / "000001.txt"
    for line, message in (
        (CAR, f"{broken}:2: field 'score' is missing"),
        (f"{CAR} high", f"{broken}:2: field 'score' is 'high', not a finite number"),
        (f"{CAR} nan", f"{broken}:2: field 'score' is 'nan', not a finite number"),
        (CAR.replace("100.00", "1,5", 1), f"{broken}:2: field 'left' is '1,5'"),
        ("Car 0.00 0", f"{broken}:2: a KITTI label has 15 fields, or 16 with a score; this has 3"),
    ):
        broken.write_text(f"{CAR} 0.5\n{line}\n")
        status, _, errors = run("kitti", "--labels", labels, "--detections", detections)
        assert status == 1
        assert errors.startswith(f"kd3d-eval: {message}")
        assert errors.count("\n") == 1
    broken = labels / "000002.txt"
    broken.write_text(CAR.replace(" 0 ", " half ", 1))
    status, _, errors = run("kitti", "--labels", labels, "--detections", detections)
    assert (status, errors) == (
        1,
        f"kd3d-eval: {broken}:1: field 'occluded' is 'half', not a finite number\n",
    )


def test_missing_folders_and_files(folders, run, tmp_path: Path) -> None:
    labels, detections = folders
    ids = tmp_path / "ids.txt"
    ids.write_text("000000\n000007\n")
    (tmp_path / "set" / "label_2").mkdir(parents=True)
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    (strangers / "frame1.txt").write_text("")
    for arguments, message in (
        ((tmp_path / "no", detections), f"{tmp_path / 'no'}: there is no such folder of label"),
        ((labels, tmp_path / "no"), f"{tmp_path / 'no'}: there is no such folder of detection"),
        ((tmp_path / "set", detections), f"did you mean {tmp_path / 'set' / 'label_2'}?"),
        ((labels, strangers), f"{strangers}: none of its 1 files has the name"),
        (
            (labels, detections, "--ids", ids),
            f"{labels}: 1 of 2 frames have no label file, the first is {labels / '000007.txt'}",
        ),
        (
            (labels, detections, "--json", ids / "ap.json"),
            f"{ids / 'ap.json'} can't be written",
        ),
    ):
        first, second, *more = arguments
        status, _, errors = run("kitti", "--labels", first, "--detections", second, *more)
        assert status == 1
        assert message in errors
        assert errors.count("\n") == 1


def test_json_is_written_whole_or_not_at_all(folders, run, tmp_path: Path, monkeypatch) -> None:
    labels, detections = folders
    arguments = ["kitti", "--labels", labels, "--detections", detections]
    target = tmp_path / "ap.json"
    run(*arguments, "--json", target)
    before = target.read_bytes()

    def full_disk(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    status, _, errors = run(*arguments, "--iou", "loose", "--json", target)
    assert status == 1
    assert "No space left" in errors
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*json*")] + list(tmp_path.glob(".*")) == [
        "ap.json"
    ]


def test_the_evaluator_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from kd3d_core.evaluation import notes, kitti_ap, kitti_files, precision, report"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
