"""Ids and velocities in what `kd3d-detect` writes, and the poses that it is given."""

import csv
from pathlib import Path

import numpy as np
import pytest
from seeing_detector import Run

from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import LIDAR_FRAME, START_NS, write_kitti_bag
from kd3d_core.data.track_labels import read_tracks
from kd3d_core.messages.types import ObjectBoxes, Transform, Transforms

AHEAD_M = 4.0  # that the detector's objects move from one picture of `kitti` to the next


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def poses_text(count: int, step_m: float) -> str:
    """A camera that goes forward, along its z."""
    return "".join(f"1 0 0 0 0 1 0 0 0 0 1 {step_m * index}\n" for index in range(count))


def test_kitti_tracks(run: Run, kitti: Path, tmp_path: Path) -> None:
    assert run("data --tracks out/tracks.txt") == 0
    tracks = read_tracks(tmp_path / "out" / "tracks.txt", scored=True)
    assert list(tracks) == [0, 1, 2, 3]
    for found in tracks.values():
        assert {number: label.type for number, label in found} == {1: "Car", 2: "Pedestrian"}
        assert all(label.has_image_box for _, label in found)
    ahead = [dict(found)[1].location[2] for found in tracks.values()]
    np.testing.assert_allclose(np.diff(ahead), AHEAD_M, atol=1)


def test_csv_tracks_with_and_without_poses(run: Run, kitti: Path, tmp_path: Path) -> None:
    (tmp_path / "poses.txt").write_text(poses_text(4, -AHEAD_M))  # we back away as they go ahead
    assert run("data --tracks ego.csv") == 0
    assert run("data --tracks ground.csv --poses poses.txt") == 0
    ego, ground = rows(tmp_path / "ego.csv"), rows(tmp_path / "ground.csv")
    assert {(row["frame"], row["id"], row["class"]) for row in ground} == {
        (frame, number, name)
        for frame in "0123"
        for number, name in (("1", "Car"), ("2", "Pedestrian"))
    }
    assert {row["over_ground"] for row in ego} == {"0"}
    assert {row["over_ground"] for row in ground} == {"1"}
    assert all(35 < float(row["vx"]) < 41 for row in ego if row["frame"] == "3")
    assert all(abs(float(row["vx"])) < 0.2 for row in ground)
    assert ground[-1]["stamp_ns"] == str(START_NS + 300_000_000)


def test_poses_belong_to_the_frames_that_are_asked_for(run: Run, kitti: Path, tmp_path) -> None:
    jump = "1 0 0 0 0 1 0 0 0 0 1 500\n"
    (tmp_path / "poses.txt").write_text(jump + poses_text(4, -AHEAD_M).split("\n", 1)[1])
    assert run("data --tracks ground.csv --poses poses.txt --frames 1:4") == 0
    assert all(abs(float(row["vx"])) < 0.2 for row in rows(tmp_path / "ground.csv"))
    assert len(rows(tmp_path / "ground.csv")) == 6


@pytest.mark.parametrize(
    ("words", "text", "error"),
    [
        ("data --tracks t.txt --poses poses.txt", poses_text(3, 1), "it has 3 poses"),
        ("data --tracks t.txt --poses poses.txt", "1 2 3\n", "poses.txt:1: a pose is 12 numbers"),
        ("data --tracks t.txt --poses poses.txt", "2 " * 12, "poses.txt:1: a pose is 12 numbers"),
        ("data --png p --poses poses.txt", poses_text(4, 1), "give --track"),
        ("data --tracks t.json", "", "ends in .txt"),
        ("bag --tracks t.txt --poses poses.txt", "", "a bag has /tf"),
    ],
)
def test_what_is_wrong_is_said(
    run: Run, kitti: Path, tmp_path: Path, capsys, words: str, text: str, error: str
) -> None:
    write_kitti_bag(KittiDataset(kitti), tmp_path / "bag")
    (tmp_path / "poses.txt").write_text(text)
    assert run(words) == 1
    assert error in capsys.readouterr().err


def test_ids_in_a_bag_of_detections(run: Run, kitti: Path, tmp_path: Path) -> None:
    assert run("data --bag tracked --track") == 0
    assert run("data --bag plain") == 0

    def ids(name: str) -> list[tuple[str, ...]]:
        with BagReader(tmp_path / name) as reader:
            messages = map(reader.decode, reader.messages(("/kd3d_detector/detections",)))
            return [boxes.ids for boxes in messages if isinstance(boxes, ObjectBoxes)]

    assert ids("tracked") == [("1", "2")] * 4
    assert ids("plain") == [(), (), (), ()]


def test_a_bag_says_how_its_car_moved(run: Run, kitti: Path, tmp_path: Path, caplog) -> None:
    """By /tf above the LiDAR, or by nothing: then velocities are relative, and it is said."""
    write_kitti_bag(KittiDataset(kitti), tmp_path / "still")
    with BagReader(tmp_path / "still") as reader, BagWriter(tmp_path / "moving") as writer:
        for topic, info in reader.topics.items():
            writer.add_topic(topic, info.type)
        writer.add_topic("/tf", Transforms.ros_type)
        for raw in reader.messages():
            writer.write(raw.topic, raw.stamp_ns, reader.decode(raw))
        for index in range(-1, 5):
            pose = np.eye(4)
            pose[0, 3] = 7 - AHEAD_M * index
            stamp_ns = START_NS + index * 100_000_000
            move = Transform(stamp_ns, "odom", LIDAR_FRAME, pose)
            writer.write("/tf", stamp_ns, Transforms((move,)))
    for frame in ("", "--detector-frame velodyne"):
        assert run(f"moving --tracks ground.csv {frame}") == 0
        assert "own frame" not in caplog.text
        found = rows(tmp_path / "ground.csv")
        assert len(found) == 8
        assert all(row["over_ground"] == "1" and abs(float(row["vx"])) < 0.2 for row in found)
    assert run("still --tracks ego.csv") == 0
    assert "own frame" in caplog.text
    assert all(row["over_ground"] == "0" for row in rows(tmp_path / "ego.csv"))


def test_pictures_show_ids(run: Run, kitti: Path, tmp_path: Path) -> None:
    assert run("data --png plain") == 0
    assert run("data --png tracked --track") == 0
    same = [
        (tmp_path / "plain" / f"00000{index}.png").read_bytes()
        == (tmp_path / "tracked" / f"00000{index}.png").read_bytes()
        for index in range(4)
    ]
    assert not any(same)
