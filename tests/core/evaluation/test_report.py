"""`kd3d-eval report`: parts of the AP, and the page."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.cli import eval as command
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label, write_labels
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.evaluation.report import break_down
from kd3d_core.messages.pictures import read_picture

CAR = Label(
    "Car", 0.0, 0, 0.3, (100.0, 100.0, 200.0, 180.0), (1.5, 1.6, 4.0), (0.0, 1.7, 20.0), 0.4
)
BANDS = (0.0, 30.0, 60.0)

MODEL = """
depth:
  weights: random
  encoder: b0
  window: {size: [96, 320], mode: crop, focal_px: 240.0}
detector:
  type: lite
  weights: random
  window: {size: [96, 320], mode: crop, focal_px: 240.0}
"""


def found(label: Label, score: float = 0.9) -> Label:
    return replace(label, truncated=-1.0, occluded=-1, score=score)


def at(z: float, x: float = 0.0, occluded: int = 0) -> Label:
    """The car elsewhere, in a place of its own in the image too."""
    left = 100.0 + 10 * z + 100 * x
    return replace(
        CAR, location=(x, 1.7, z), occluded=occluded, bbox=(left, 100.0, left + 100, 180.0)
    )


def part(name: str, frames: list[tuple[list[Label], list[Label]]], level: int = 1) -> float:
    """3D R40 of cars in a part, as a share of what so many labels can reach."""
    labels, detections = ([frame[side] for frame in frames] for side in (0, 1))
    parts = break_down(labels, detections, BANDS)
    result = {**parts.by_distance, **parts.by_occlusion}[name]
    number = result.objects["car"][level]
    return result.curves["car"]["3d"].r40[level] / (100 * (number - 1) / 40)


# -- parts of the AP -----------------------------------------------------------------------------


def test_a_band_asks_only_for_its_labels() -> None:
    """Near cars are all found, far ones are not."""
    frames = [([at(20), at(45)], [found(at(20), 0.5 + index / 100)]) for index in range(20)]
    assert part("0-30 m", frames) == pytest.approx(1)
    assert part("30-60 m", frames) == 0
    labels, detections = ([frame[side] for frame in frames] for side in (0, 1))
    parts = break_down(labels, detections, BANDS)
    assert [parts.by_distance[name].objects["car"][0] for name in ("0-30 m", "30-60 m")] == [20, 20]
    assert parts.overall.objects["car"][0] == 40


def test_wrong_detections_count_in_their_band_only() -> None:
    frames = [
        ([at(20), at(45)], [found(at(20), 0.5), found(at(45), 0.5), found(at(50, 8.0), 0.9)])
        for _ in range(20)
    ]
    assert part("0-30 m", frames) == pytest.approx(1)
    assert part("30-60 m", frames) == pytest.approx(0.5)  # one wrong for each right one


def test_distance_is_over_ground_and_the_far_border_is_in_the_next_band() -> None:
    border, beyond = at(24, 18.0), at(24.1, 18.0)  # 30 m: a 3-4-5 triangle
    parts = break_down([[border, beyond, at(29.9)]], [[]], BANDS)
    assert [result.objects["car"][0] for result in parts.by_distance.values()] == [1, 2]


def test_a_car_may_be_found_from_across_the_border() -> None:
    frames = [([at(29.95)], [found(at(30.05), 0.5 + index / 100)]) for index in range(20)]
    assert part("0-30 m", frames) == pytest.approx(1)
    labels, detections = ([frame[side] for frame in frames] for side in (0, 1))
    far = break_down(labels, detections, BANDS).by_distance["30-60 m"]
    assert far.objects["car"] == (0, 0, 0)


def test_occlusion_asks_only_for_its_labels() -> None:
    frames = [
        ([at(20), at(40, 5.0, occluded=2)], [found(at(20), 0.5 + index / 100)])
        for index in range(20)
    ]
    assert part("fully visible", frames, level=2) == pytest.approx(1)
    assert part("largely occluded", frames, level=2) == 0


def test_one_band_of_everything_is_the_whole(tracking: KittiDataset) -> None:
    labels = [frame.labels() for frame in tracking]
    random = np.random.default_rng(0)
    detections = [
        [
            found(
                replace(each, rotation_y=each.rotation_y + random.normal(0, 0.1)), random.random()
            )
            for each in frame
            if each.is_object and random.random() < 0.8
        ]
        for frame in labels
    ]
    parts = break_down(labels, detections, (0.0, math.inf))
    whole = evaluate(labels, detections).to_json()
    assert parts.overall.to_json() == whole
    assert parts.by_distance["0-inf m"].to_json() == whole
    assert whole["car"]["3d"]["R40"][1] > 20


def test_bands_rise() -> None:
    for bands in ((), (10.0,), (0.0, 20.0, 20.0)):
        with pytest.raises(Kd3dError, match="two or more rising distances"):
            break_down([], [], bands)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call `kd3d-eval report`; exit status, standard output and standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kd3d-eval", "report", *map(str, args)])
        status = command.main()
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def runs(kitti_object: KittiDataset, tmp_path: Path) -> tuple[Path, Path]:
    """Detections of two runs: all but the first object of each frame, and everything."""
    for run, start in (("some", 1), ("every", 0)):
        (tmp_path / run).mkdir()
        for frame in kitti_object:
            detections = [found(label) for label in frame.objects()[start:]]
            write_labels(tmp_path / run / f"{frame.name}.txt", detections)
    return tmp_path / "some", tmp_path / "every"


def test_two_runs_side_by_side_with_depth(
    kitti_object: KittiDataset, runs: tuple[Path, Path], run, tmp_path: Path
) -> None:
    for metres in (12, 24):
        (tmp_path / f"flat{metres}").mkdir()
        for frame in kitti_object:
            flat = np.full(frame.image_size(), metres, np.float32)
            np.save(tmp_path / f"flat{metres}" / f"{frame.name}.npy", flat)
    out = tmp_path / "page" / "report.html"
    status, output, errors = run(
        *("--labels", kitti_object.root / "label_2", "--detections", runs[0], "--other", runs[1]),
        *("--depth", tmp_path / "flat12", "--other-depth", tmp_path / "flat24"),
        *("--data", kitti_object.root, "--out", out, "--worst", 3),
    )
    assert (status, errors) == (0, "")
    assert str(out) in output
    text = out.read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:11] == [
        "Average precision",
        "Precision over recall",
        "By distance",
        "By occlusion",
        "Kinds of errors",
        "What correcting them would add",
        "Confusion of classes",
        "Depth error of objects",
        "Depth error by distance",
        "Worst frames",
        "Errors, frame by frame",
    ]
    titles = re.findall(r'class="frame" data-title="(\w+)"', text)
    assert len(titles) == 3
    assert text.count("<img ") == 3 * 2 * 2
    # Each of the first run's frames lacks one, and the second run makes no error.
    assert (
        re.findall(r"<h3>(.*?)</h3>", text)
        == ["some: 1 not found, 0 wrong", "every: 0 not found, 0 wrong"] * 3
    )
    assert re.findall(r'<a href="#(\d+)">\1</a>', text) == titles  # of the table
    assert '<th scope="col">abs_rel, some</th><th scope="col">abs_rel, every</th>' in text
    errors_of = depth_table(text)
    # From 10 to 20 m, 12 m are at most 40 % off and 24 m at least 20 %.
    assert errors_of["10-20"][0] < 0.4
    assert errors_of["10-20"][1] > 0.2
    # Beyond 40 m the answers are at least 70 % and 40 % off, and 24 m is the better one.
    assert errors_of["40-80"][0] > 0.7
    assert 0.4 < errors_of["40-80"][1] < errors_of["40-80"][0]


def depth_table(text: str) -> dict[str, list[float]]:
    """Numbers of the page's table of depth errors, but for the pixels, by band."""
    rows = re.findall(r'<th scope="row">(\d+-\d+) m</th><td>\d+</td>((?:<td>[\d.]+</td>)+)', text)
    return {band: [float(n) for n in re.findall(r"[\d.]+", cells)] for band, cells in rows}


def test_depth_of_a_model_is_what_the_depth_command_says(
    kitti_object: KittiDataset, runs: tuple[Path, Path], run, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "model.yaml").write_text(MODEL)
    (tmp_path / "ids.txt").write_text("000000\n000003")
    given = ("--data", kitti_object.root, "--ids", tmp_path / "ids.txt", "--device", "cpu")
    model, expected = tmp_path / "model.yaml", tmp_path / "depth.json"
    words = ["kd3d-eval", "depth", *given, "--model", model, "--json", expected]
    monkeypatch.setattr("sys.argv", list(map(str, words)))
    assert command.main() == 0
    scores = json.loads(expected.read_text())["scores"]
    labels = ("--labels", kitti_object.root / "label_2", "--detections", runs[0])
    out = tmp_path / "report.html"
    # Asked for the only run's depth, and for the second run's alone.
    for more in (("--model", model), ("--other", runs[1], "--other-model", model)):
        status, _, errors = run(*labels, *given, *more, "--out", out, "--worst", 0)
        assert (status, errors) == (0, "")
        text = out.read_text()
        assert "have no predicted depth" in text  # its window doesn't show all of the image
        table = depth_table(text)
        assert len(table) == 4
        for band, numbers in table.items():
            measures = [scores[band]["per_pixel"][name] for name in ("abs_rel", "rmse", "silog")]
            assert numbers[:3] == pytest.approx(measures, abs=6e-5)


def test_no_worst_frames_are_asked_for(
    kitti_object: KittiDataset, runs: tuple[Path, Path], run, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    given = ("--labels", kitti_object.root / "label_2", "--detections", runs[0], "--out", out)
    assert run(*given, "--worst", 0)[0] == 0
    text = out.read_text()
    assert "By occlusion" in text
    assert "Worst frames" not in text
    assert "no frame with an error" not in text


def test_without_pictures_the_worst_frames_are_a_table(
    kitti_object: KittiDataset, runs: tuple[Path, Path], run, tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    labels = kitti_object.root / "label_2"
    assert run("--labels", labels, "--detections", runs[0], "--out", out)[0] == 0
    text = out.read_text()
    assert "<img" not in text
    assert "Give --data to see the worst, and --pictures to see any of them" in text
    assert re.search(r'<th scope="row">0000\d\d</th><td>1</td><td>0</td>', text)
    assert run("--labels", labels, "--detections", runs[1], "--out", out)[0] == 0
    assert "There is no frame with an error." in out.read_text()


def test_any_frame_has_its_picture_behind_a_link(
    kitti_object: KittiDataset, runs: tuple[Path, Path], run, tmp_path: Path
) -> None:
    out, pictures = tmp_path / "page" / "report.html", tmp_path / "all pictures"
    (tmp_path / "ids.txt").write_text("000000\n000001")
    given = ("--labels", kitti_object.root / "label_2", "--detections", runs[0], "--out", out)
    given += ("--data", kitti_object.root, "--ids", tmp_path / "ids.txt", "--worst", 1)
    assert run(*given, "--pictures", pictures)[0] == 0
    links = re.findall(r'<a href="(.*?)">(\d+)</a>', out.read_text())
    # The first is in the page.
    assert links == [("#000000", "000000"), ("../all%20pictures/000001.jpg", "000001")]
    image = kitti_object.frame("000001").image()
    shown = read_picture(pictures / "000001.jpg")
    assert shown.shape[1] == image.shape[1]
    # The image stands above, with boxes; a JPEG's noise is far below theirs.
    changed = np.abs(shown[: len(image)].astype(int) - image).max(2) > 100
    assert 200 < changed.sum() < changed.size / 10


def test_a_page_without_ap_says_why(tmp_path: Path, run) -> None:
    for folder, score in (("labels", None), ("detections", 0.9)):
        (tmp_path / folder).mkdir()
        flat = replace(CAR, bbox=(0.0,) * 4, score=score)
        write_labels(tmp_path / folder / "000000.txt", [flat])
    status, _, _ = run(
        *("--labels", tmp_path / "labels", "--detections", tmp_path / "detections"),
        *("--out", tmp_path / "page.html"),
    )
    assert status == 0
    page = (tmp_path / "page.html").read_text()
    assert "No label counts, so that no class has AP: the notes below say why." in page
    assert "car has no AP (easy, moderate, hard): of 1 labels, 1 without 2D box" in page
    assert "By distance" not in page


def test_what_goes_wrong_is_one_line(
    kitti_object: KittiDataset, runs: tuple[Path, Path], run, tmp_path: Path
) -> None:
    given = ["--labels", kitti_object.root / "label_2", "--detections", runs[0]]
    given += ["--out", tmp_path / "report.html"]
    for more, message in (
        (["--depth", runs[0]], "depth needs --data"),
        (["--model", "lite"], "depth needs --data"),
        (["--other", runs[1], "--other-model", "lite"], "depth needs --data"),
        (["--other-model", "lite"], "need --other"),
        (["--depth", runs[0], "--model", "lite"], "some: give a folder of maps or a model"),
        (["--data", kitti_object.root, "--model", "nobody"], "nobody"),
        (["--data", kitti_object.root, "--model", "lite", "--device", "tpu"], "tpu"),
        (["--other", runs[0]], "are the same folder"),
        (["--bands", "10"], "two or more rising distances"),
        (["--bands", "near"], "--bands near: write metres"),
        (["--data", tmp_path], "no KITTI data set"),
        (["--worst", "-1"], "--worst -1"),
        (["--pictures", tmp_path / "pictures"], "--pictures needs --data"),
    ):
        status, _, errors = run(*given, *more)
        assert (status, errors.count("\n")) == (1, 1), errors
        assert message in errors
    assert not (tmp_path / "report.html").exists()
