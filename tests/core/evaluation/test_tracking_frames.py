"""What counts in KITTI's tracking benchmark, and the command that prints the measures."""

import json
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.cli import eval as command
from kd3d_core.errors import DataError
from kd3d_core.evaluation.tracking import clear_mot, hota
from kd3d_core.evaluation.tracking_frames import TrackedFrames, read_sequences


def line(
    frame: int,
    number: int,
    x: float = 2.0,
    name: str = "Car",
    *,
    truncated: int = 0,
    occluded: int = 0,
    score: bool = False,
    height_px: int = 80,
) -> str:
    """An object at 20 m, 16 px wide for each metre of its place."""
    left = 400 + 16 * x
    return (
        f"{frame} {number} {name} {truncated} {occluded} 0 {left} 100 {left + 60} {100 + height_px}"
        f" 1.5 1.6 4.0 {x} 1.7 20.0 0{' 0.9' if score else ''}\n"
    )


def found(frame: int, number: int, x: float = 2.0, name: str = "Car", **more: int) -> str:
    return line(frame, number, x, name, score=True, **more)


def dont_care(frame: int, x: float) -> str:
    left = 400 + 16 * x
    return (
        f"{frame} -1 DontCare -1 -1 -10 {left} 100 {left + 50} 200 -1000 -1000 -1000 -10 -1 -1 -1\n"
    )


def read(tmp_path: Path, labels: str, tracks: str) -> TrackedFrames:
    (tmp_path / "labels.txt").write_text(labels)
    (tmp_path / "tracks.txt").write_text(tracks)
    return read_sequences(tmp_path / "labels.txt", tmp_path / "tracks.txt")


@pytest.mark.parametrize(
    ("labels", "tracks", "counts"),  # matches, misses, false
    [
        (line(0, 1), found(0, 7), (1, 0, 0)),
        (line(0, 1), found(0, 7, x=30), (0, 1, 1)),
        # A van need not be found, and may be; so may what is hidden or cut off.
        (line(0, 1, name="Van"), found(0, 7), (0, 0, 0)),
        (line(0, 1, name="Van"), "", (0, 0, 0)),
        (line(0, 1, name="Truck"), found(0, 7), (0, 0, 1)),
        (line(0, 1, occluded=3), found(0, 7), (0, 0, 0)),
        (line(0, 1, occluded=2), "", (0, 1, 0)),
        (line(0, 1, truncated=1), found(0, 7), (0, 0, 0)),
        # What finds nothing may be small, or in an area that nobody labelled.
        ("", found(0, 7, height_px=25), (0, 0, 0)),
        ("", found(0, 7, height_px=26), (0, 0, 1)),
        (line(0, 1), found(0, 7, height_px=25), (1, 0, 0)),
        (dont_care(0, 2), found(0, 7), (0, 0, 0)),
        (dont_care(0, 4), found(0, 7), (0, 0, 1)),
        # Other classes.
        (line(0, 1), found(0, 7, name="Cyclist"), (0, 1, 0)),
    ],
)
def test_what_counts(tmp_path: Path, labels: str, tracks: str, counts: tuple[int, ...]) -> None:
    frames = read(tmp_path, labels or line(0, 1, name="Tram"), tracks)
    mot = clear_mot(frames.pairs("Car", "3d", 0.25), 0.25)
    assert (mot.matches, mot.misses, mot.false) == counts


def test_kinds_of_similarity(tmp_path: Path) -> None:
    """A metre aside, along the car, whose length of 4 m and 60 px overlap by 3/5 and 44/76."""
    frames = read(tmp_path, line(0, 1), found(0, 7, x=3.0))
    expected = {"3d": 3 / 5, "bev": 3 / 5, "bbox": 44 / 76, "distance": 3 / 4}
    for kind, value in expected.items():
        (pair,) = frames.pairs("Car", kind, 0.1)
        np.testing.assert_allclose(pair.similarity, [[value]], atol=1e-6)


def test_pairs_of_frames_of_many_sizes_are_those_of_each_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, tracks = "", ""
    for frame in range(12):
        for number in np.flatnonzero(rng.random(5) < 0.7):
            labels += line(frame, number, x=6 * number)
        for number in rng.permutation(np.flatnonzero(rng.random(5) < 0.7)):
            tracks += found(frame, 50 + number, x=6 * number + 0.8)
    frames = read(tmp_path, labels or "", tracks)
    for kind in ("3d", "distance"):
        for pair in frames.pairs("Car", kind, 0.1):
            belongs = pair.truth[:, None] == pair.tracks[None] - 50
            np.testing.assert_allclose(
                pair.similarity, np.where(belongs, 3.2 / 4.8 if kind == "3d" else 0.8, 0), atol=1e-6
            )


def noisy_tracks(labels: str, seed: int) -> str:
    """Tracks from labels: moved, missed, under changing ids, and false ones, also in DontCare."""
    rng, text = np.random.RandomState(seed), ""
    for index, words in enumerate(map(str.split, labels.splitlines())):
        box = np.array(words[6:10], float)
        draw, shift = rng.random_sample(5), rng.standard_normal(5)
        if (words[2] == "DontCare" and draw[0] < 0.85) or draw[1] < 0.15:
            continue
        number = 5000 + index if words[2] == "DontCare" else int(words[1])
        number += 100 * (int(words[0]) // 10) if draw[2] < 0.3 else 0
        boxes = [(number, box + 0.06 * (box[3] - box[1]) * shift[:4])]
        if draw[3] < 0.2:
            aside = np.array([80 * shift[4], 0, 80 * shift[4], -30 * (draw[4] < 0.5)])
            boxes.append((9000 + index, box + aside))
        for own, (left, top, right, bottom) in boxes:
            if right > left and bottom > top:
                text += (
                    f"{words[0]} {own} Car -1 -1 -10 {left:.2f} {top:.2f} {right:.2f} {bottom:.2f}"
                    " 1.5 1.6 4 2 1.7 20 0 0.9\n"
                )
    return text


# TrackEval 1.3.0 with its KITTI rules (kitti_2d_box) on `noisy_tracks(label_02, seed)`: HOTA, DetA,
# AssA, MOTA; matches, misses, false, IDSW.
TRACKEVAL = {
    0: (
        (0.580980913, 0.646252477, 0.525015633, 0.532019704),
        (166, 37, 21, 37),
    ),
    1: (
        (0.581649320, 0.640491576, 0.529286532, 0.482758621),
        (169, 34, 26, 45),
    ),
    2: (
        (0.604590469, 0.660140397, 0.554697313, 0.477832512),
        (179, 24, 33, 49),
    ),
}


@pytest.mark.parametrize("seed", TRACKEVAL)
def test_a_recorded_sequence_as_trackeval_has_it(
    tracking_labels: Path, tmp_path: Path, seed: int
) -> None:
    tracks = tmp_path / "tracks.txt"
    tracks.write_text(noisy_tracks(tracking_labels.read_text(), seed))
    pairs = read_sequences(tracking_labels, tracks).pairs("Car", "bbox", 0.5)
    numbers, counts = TRACKEVAL[seed]
    means, mot = hota(pairs).means(), clear_mot(pairs)
    found = [means["hota"], means["det_a"], means["ass_a"], mot.mota]
    np.testing.assert_allclose(found, numbers, atol=2e-9)
    assert (mot.matches, mot.misses, mot.false, mot.switches) == counts


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command; exit status, standard output and standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kd3d-eval", "tracking", *map(str, args)])
        status = command.main()
        return status, *capsys.readouterr()

    return call


def test_the_command_prints_and_writes_the_measures(run, tmp_path: Path) -> None:
    """Two sequences with the same ids, in one of which the track changes its id."""
    for folder in ("labels", "tracks"):
        (tmp_path / folder).mkdir()
    for name, ids in (("0000", [7, 7, 7, 7]), ("0001", [7, 7, 8, 8])):
        (tmp_path / "labels" / f"{name}.txt").write_text("".join(line(i, 1) for i in range(4)))
        (tmp_path / "tracks" / f"{name}.txt").write_text(
            "".join(found(i, number) for i, number in enumerate(ids))
        )
    status, output, errors = run(
        *("--labels", tmp_path / "labels", "--tracks", tmp_path / "tracks"),
        *("--json", tmp_path / "out.json"),
    )
    assert (status, errors) == (0, "")
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["frames"], written["similarity"]) == (8, "3d")
    car = written["classes"]["car"]
    assert (car["objects"], car["switches"], car["boxes"]) == (2, 1, 8)
    assert car["mota"] == pytest.approx(100 * 7 / 8)
    assert car["ass_a"] == pytest.approx(75)
    assert list(written["classes"]) == ["car"]
    head, row = (each.split() for each in output.splitlines()[1:3])
    assert dict(zip(head, row, strict=True))["MOTA"] == "87.50"


def test_labels_that_end_early_are_noted(run, tmp_path: Path) -> None:
    read(tmp_path, line(0, 1), found(0, 7) + found(1, 7) + found(2, 7))
    _, output, _ = run("--labels", tmp_path / "labels.txt", "--tracks", tmp_path / "tracks.txt")
    assert "2 frames are after the last label, 0" in output


@pytest.mark.parametrize(
    ("labels", "tracks", "error"),
    [
        (line(0, 1), line(0, 7), "tracks.txt:1: field 'score' is missing"),
        (line(0, 1), found(0, 7) + found(0, 7), "tracks.txt:2: track 7 has two objects in frame 0"),
        (line(0, 1)[2:], "", "labels.txt:1: a tracking label begins with frame and track id"),
        (line(0, 1)[:-4], "", "labels.txt:1: a KITTI label has 15 fields"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, labels: str, tracks: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        read(tmp_path, labels, tracks)


def test_wrong_arguments_are_named(run, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "tracks").mkdir()
    (tmp_path / "one.txt").write_text(line(0, 1))
    both = "--labels", tmp_path / "labels", "--tracks"
    assert "give two files, or two folders" in run(*both, tmp_path / "one.txt")[2]
    assert "no label file" in run(*both, tmp_path / "tracks")[2]
    (tmp_path / "labels" / "0000.txt").write_text(line(0, 1))
    assert "the first is 0000.txt" in run(*both, tmp_path / "tracks")[2]
    one = tmp_path / "one.txt"
    assert "--threshold 2" in run("--labels", one, "--tracks", one, "--threshold", "2")[2]
