"""Whole extractions of small recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_recording import (
    LIDAR_FROM_CAMERA,
    MS,
    START_NS,
    boxes,
    camera,
    cloud,
    drive,
    image,
    labels,
    restamped,
    scans,
    static,
    tree,
    write,
)

from kd3d_core.data.bag import BagReader, compression
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.splits import read_split
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.run import extract
from kd3d_core.extract.summary import CameraReport, ExtractReport
from kd3d_core.messages.types import Message, Transform, Transforms

PLAIN = ExtractConfig()


def report_of(bag: Path, out: Path, config: ExtractConfig = PLAIN) -> ExtractReport:
    report = extract([bag], out, config).report
    assert report is not None
    return report


def camera_of(bag: Path, out: Path, config: ExtractConfig = PLAIN) -> CameraReport:
    (recording,) = report_of(bag, out, config).recordings
    (found,) = recording.cameras
    return found


def test_a_data_set_is_what_was_recorded(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(10))
    report = camera_of(bag, tmp_path / "out")
    dataset = KittiDataset(tmp_path / "out")
    assert dataset.names == tuple(f"{number:06d}" for number in range(10))
    for number, frame in enumerate(dataset):
        np.testing.assert_array_equal(frame.image(), image(2 * number, 0).rgb())
        np.testing.assert_array_equal(frame.points(), cloud(number, 0).points)
        np.testing.assert_allclose(frame.camera().lidar_from_camera, LIDAR_FROM_CAMERA, atol=1e-9)
        assert frame.camera().focal_px == 40
        (label,) = frame.labels()
        assert (label.type, label.score) == ("Car", None)
        assert label.location[2] == pytest.approx(12 - 0.3, abs=1e-4)
    assert [frame.offset_s for frame in report.frames] == [0.004] * 10
    assert report.max_offset_s == 0.025
    meta = dataset.meta
    assert meta["drives"] == {"bag": list(dataset.names)}
    assert meta["frames"]["000003"]["stamp_ns"] == START_NS + 300 * MS
    assert meta["camera"]["focal_px"] == 40
    assert meta["camera"]["height_m"] == pytest.approx(1.63)
    sums = (tmp_path / "out" / "checksums.sha256").read_text().splitlines()
    files = tree(tmp_path / "out")
    assert len(sums) == 40
    for line in sums:
        digest, _, path = line.partition("  ")
        assert files[path] == digest


def _no_change(recorded):
    return recorded


def _odd_stamps(recorded):
    recorded = restamped(recorded, "/camera/image_raw", {3: 0, 4: START_NS + 4 * MS})
    return restamped(recorded, "/points", {5: START_NS + 400 * MS, 7: START_NS - 10**10})


def _damaged(recorded):
    """An image of another size than its message says, and an empty cloud."""
    result = []
    for topic, at_ns, message in recorded:
        changed = message
        if topic == "/camera/image_raw" and at_ns == START_NS + 209 * MS:
            changed = replace(message, data=message.data[:100])
        if topic == "/points" and at_ns == START_NS + 520 * MS:
            changed = replace(message, points=message.points[:0])
        result.append((topic, at_ns, changed))
    return result


def _other_topics(recorded):
    return [*recorded, ("/elsewhere", START_NS, static(START_NS)[2]), ("/map", START_NS, boxes(1))]


def _foreign_labels(recorded):
    return [
        (topic, at_ns, boxes(message.stamp_ns, "map") if topic == "/labels" else message)
        for topic, at_ns, message in recorded
    ]


@pytest.mark.parametrize(
    ("change", "config", "frames"),
    [
        (_no_change, PLAIN, 12),
        (_no_change, ExtractConfig(every=5), 3),
        (_no_change, ExtractConfig(max_offset_s=0.003), 0),
        (_no_change, ExtractConfig(clock="record", max_offset_s=0.02), 12),
        (_odd_stamps, PLAIN, 9),
        (_damaged, PLAIN, 10),
        (_other_topics, ExtractConfig(labels="/labels"), 12),
        (_foreign_labels, PLAIN, 12),
        (lambda recorded: recorded[:60], PLAIN, 12),
    ],
)
def test_every_message_is_accounted_for(tmp_path: Path, change, config, frames) -> None:
    bag = write(tmp_path / "bag", change(drive(12)))
    if not frames:
        with pytest.raises(DataError, match=r"not one frame.*12 on /points without an image near"):
            extract([bag], tmp_path / "out", config)
        return
    (recording,) = report_of(bag, tmp_path / "out", config).recordings
    (found,) = recording.cameras
    with BagReader(bag) as reader:
        counts = {topic.name: topic.count for topic in reader.topics.values()}
    tallies = {**found.tallies, **recording.others}
    assert {topic: tally.total for topic, tally in tallies.items()} == counts
    assert len(found.frames) == frames
    assert found.tallies["/points"].used == found.tallies["/camera/image_raw"].used == frames
    assert len(list((tmp_path / "out" / "training" / "image_2").iterdir())) == frames


def test_reasons_are_told(tmp_path: Path) -> None:
    found = camera_of(write(tmp_path / "bag", _damaged(drive(12))), tmp_path / "out")
    images, points = found.tallies["/camera/image_raw"], found.tallies["/points"]
    (reason,) = images.rejected
    assert reason.startswith("image has 100 bytes, but")
    assert points.rejected == {"a cloud without points": 1}
    assert points.skipped == {"of a frame whose other messages can't be used": 1}
    labelled = camera_of(write(tmp_path / "other", _foreign_labels(drive(4))), tmp_path / "out2")
    assert labelled.tallies["/labels"].rejected == {"labels in the frame 'map', not in 'lidar'": 4}
    assert not (tmp_path / "out2" / "training" / "label_2").exists()


def test_points_that_measure_nothing_are_dropped_and_counted(tmp_path: Path) -> None:
    recorded = drive(3)
    points = next(message for topic, _, message in recorded if topic == "/points").points
    points[0] = np.nan
    points[1:3] = 0
    points[3, 1] = -1e30
    found = camera_of(write(tmp_path / "bag", recorded), tmp_path / "out")
    assert [frame.points for frame in found.frames] == [96, 100, 100]
    assert found.frames[0].dropped == {"not finite": 1, "at zero": 2, "too far": 1}
    np.testing.assert_array_equal(KittiDataset(tmp_path / "out")[0].points(), points[4:])


def test_a_cloud_of_points_that_are_all_too_far_makes_no_frame(tmp_path: Path) -> None:
    recorded = []
    for topic, at_ns, message in drive(4):
        changed = message
        if topic == "/points" and at_ns == START_NS + 120 * MS:
            changed = replace(message, points=message.points * np.float32([1e9, 1e9, 1e9, 1]))
        recorded.append((topic, at_ns, changed))
    found = camera_of(write(tmp_path / "bag", recorded), tmp_path / "out")
    assert [frame.name for frame in found.frames] == ["000000", "000002", "000003"]
    assert found.tallies["/points"].rejected == {"a cloud whose points are all too far away": 1}
    assert not (tmp_path / "out" / "training" / "velodyne" / "000001.bin").exists()


def test_two_cameras_are_two_sets_with_the_same_names(tmp_path: Path) -> None:
    """The rear one looks backwards: its points are turned, so that it looks along x as well."""
    turn = np.diag([-1.0, -1, 1, 1])
    recorded = [
        static(START_NS, "front"), static(START_NS, "rear", turn @ LIDAR_FROM_CAMERA),
        *scans(6), *camera(12, "front"), *camera(3, "rear", period_ms=200), *labels(6),
    ]  # fmt: skip
    bag = write(tmp_path / "bag", recorded)
    (recording,) = report_of(bag, tmp_path / "out").recordings
    assert [each.camera.name for each in recording.cameras] == ["front", "rear"]
    front, rear = (KittiDataset(tmp_path / "out" / name) for name in ("front", "rear"))
    assert len(front) == 6
    assert rear.names == ("000000", "000002", "000004")
    before, after = cloud(2, 0).points, rear.frame("000002").points()
    np.testing.assert_array_equal(after, before * np.array([-1, -1, 1, 1], np.float32))
    pose = rear[0].camera().lidar_from_camera
    np.testing.assert_allclose(pose, LIDAR_FROM_CAMERA, atol=1e-9)
    assert rear.frame("000002").labels() == []  # the car is ahead


def test_without_lidar_images_are_extracted(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", camera(8))
    found = camera_of(bag, tmp_path / "out", ExtractConfig(every=2, camera_height_m=0.9))
    assert len(found.frames) == 4
    assert found.max_offset_s is None
    frame = KittiDataset(tmp_path / "out")[1]
    assert frame.files.keys() == {"image_2", "calib"}
    np.testing.assert_array_equal(frame.image(), image(2, 0).rgb())
    assert found.camera_height_m == pytest.approx(0.9)


def test_a_height_moves_the_ground_to_where_models_expect_it(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(2))
    found = camera_of(bag, tmp_path / "out", ExtractConfig(camera_height_m=0.63))
    assert found.camera_height_m == pytest.approx(0.63)
    points = KittiDataset(tmp_path / "out")[0].points()
    np.testing.assert_allclose(points[:, 2], cloud(0, 0).points[:, 2] - 1, atol=1e-5)
    (label,) = KittiDataset(tmp_path / "out")[0].labels()
    assert label.location[1] == pytest.approx(1.6, abs=1e-3)  # where it is for the camera


def _moving(count: int, step_m: float) -> list[tuple[str, int, Message]]:
    moves = []
    for number in range(count + 1):
        stamp, pose = START_NS + 100 * number * MS, np.eye(4)
        pose[0, 3] = number * step_m
        moves.append(("/tf", stamp, Transforms((Transform(stamp, "odom", "lidar", pose),))))
    return moves


def test_frames_may_have_to_be_apart(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [*drive(10), *_moving(10, 0.3)])
    config = ExtractConfig(min_motion_m=0.85, correct_motion=False)
    found = camera_of(bag, tmp_path / "out", config)
    stamps = [(frame.stamp_ns - START_NS) // (100 * MS) for frame in found.frames]
    assert stamps == [0, 3, 6, 9]
    reason = "too near to the frame before, by --min-motion"
    assert found.tallies["/points"].skipped == {reason: 6}
    assert found.tallies["/camera/image_raw"].skipped[reason] == 6


def test_sweeps_are_corrected_for_motion(tmp_path: Path) -> None:
    """3 m/s ahead, and the image is 4 ms later: all of the world is 12 mm nearer then."""
    bag = write(tmp_path / "bag", [*drive(4), *_moving(4, 0.3)])
    found = camera_of(bag, tmp_path / "out")
    moved = KittiDataset(tmp_path / "out")[1].points()
    expected = cloud(1, 0).points - np.array([0.012, 0, 0, 0], np.float32)
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert all("moved" in frame.motion for frame in found.frames)
    camera_of(bag, tmp_path / "raw", ExtractConfig(correct_motion=False))
    np.testing.assert_array_equal(KittiDataset(tmp_path / "raw")[1].points(), cloud(1, 0).points)


def test_several_recordings_are_one_set(tmp_path: Path) -> None:
    bags = [write(tmp_path / name, drive(count)) for name, count in (("a", 4), ("b", 1), ("c", 1))]
    extract(bags, tmp_path / "out", PLAIN)
    dataset = KittiDataset(tmp_path / "out")
    assert len(dataset) == 6
    assert dataset.meta["drives"]["b"] == ["000004"]
    train, val = (
        read_split(tmp_path / "out" / "ImageSets" / f"{name}.txt") for name in ("train", "val")
    )
    drive_of = {name: drive for drive, part in dataset.meta["drives"].items() for name in part}
    assert {drive_of[name] for name in train}.isdisjoint(drive_of[name] for name in val)


@pytest.mark.parametrize(
    ("recorded", "config", "message"),
    [
        (scans(3), PLAIN, r"no sensor_msgs/Image or .* in it; it has /points \(sensor_msgs"),
        ([*camera(3)[1::2], *scans(3)], PLAIN, "there is no sensor_msgs/CameraInfo in it"),
        ([*camera(3), *scans(3)], PLAIN, "neither /tf_static nor /tf in it: give --extrinsics"),
        (drive(3), ExtractConfig(points="/nothing"), "PointCloud2 on /nothing; there is /points"),
        (drive(3), ExtractConfig(images=("/front",)), "on /front; there is /camera/image_raw"),
        (
            [static(START_NS, "other"), *scans(3), *camera(6)],
            PLAIN,
            "from the camera's frame 'camera' to the LiDAR's 'lidar'.*--extrinsics",
        ),
        (
            [*drive(3), ("/velodyne", START_NS, cloud(0, START_NS))],
            PLAIN,
            "PointCloud2 is on /velodyne, /points: choose with --points",
        ),
        (
            restamped(drive(3), "/points", dict.fromkeys(range(3), 0)),
            PLAIN,
            "no message on /points has a stamp in its header: give --clock record",
        ),
    ],
)
def test_what_lacks_is_named(tmp_path: Path, recorded, config, message) -> None:
    bag = write(tmp_path / "bag", recorded)
    with pytest.raises(Kd3dError, match=message) as caught:
        extract([bag], tmp_path / "out", config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "training").exists()


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_a_camera_of_12_bits_in_16(tmp_path: Path, order: str) -> None:
    grey = np.random.default_rng(0).integers(0, 4096, (24, 48)).astype(np.uint16)
    recorded: list[tuple[str, int, Message]] = []
    for topic, at_ns, message in drive(2):
        changed = message
        if topic == "/camera/image_raw":
            data = grey.astype(order).view(np.uint8).reshape(-1)
            wide = {"encoding": "mono16", "step": 96, "is_bigendian": order == ">u2"}
            changed = replace(message, data=data, **wide)
        recorded.append((topic, at_ns, changed))
    bag = write(tmp_path / "bag", recorded)
    found = camera_of(bag, tmp_path / "out", ExtractConfig(image_bits=12))
    assert len(found.frames) == 2
    pixels = KittiDataset(tmp_path / "out")[0].image()
    for channel in range(3):
        expected = grey.astype(float) / 4095 * 255
        assert np.abs(pixels[..., channel] - expected).max() <= 1
    for bits, words in ((16, "it is one of 14 bits or less"), (10, "more than 10 bits")):
        config = ExtractConfig(image_bits=bits)
        (reason,) = (
            camera_of(bag, tmp_path / str(bits), config).tallies["/camera/image_raw"].rejected
        )
        assert words in reason
        assert "--image-bits" in reason


def _compressed(bag: Path, folder: Path) -> Path:
    """The file of a bag as a recorder compresses it."""
    folder.mkdir()
    (file,) = bag.glob("*.mcap")
    (folder / f"{file.name}.zstd").write_bytes(compression.zstd.compress(file.read_bytes()))
    return folder


def test_a_compressed_file_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = []
    unzstd_file = compression.unzstd_file
    monkeypatch.setattr(
        compression, "unzstd_file", lambda *args: unpacked.append(args) or unzstd_file(*args)
    )
    plain = write(tmp_path / "bag", drive(20))
    bag = _compressed(plain, tmp_path / "compressed")
    for out, workers in ((tmp_path / "one", 1), (tmp_path / "two", 2)):
        extract([bag], out, PLAIN, workers=workers)
        assert len(unpacked) == workers  # of both runs
        assert not list(out.rglob("*.mcap"))
    extract([plain], tmp_path / "plain", PLAIN)
    for out in ("one", "two"):
        assert tree(tmp_path / out / "training") == tree(tmp_path / "plain" / "training")


def test_a_compressed_file_that_is_cut_off_says_so_however_often_it_is_opened(
    tmp_path: Path,
) -> None:
    bag = _compressed(write(tmp_path / "bag", drive(20)), tmp_path / "compressed")
    (file,) = bag.iterdir()
    file.write_bytes(file.read_bytes()[:-40_000])
    stops = set()
    for _ in range(2):
        with BagReader(bag, tmp_path / "unpacked") as reader:
            stops.add(reader.stopped)
    assert len(stops) == 1
    report = report_of(bag, tmp_path / "out")
    assert report.recordings[0].stopped in stops
    assert 0 < report.frame_count < 20


def test_processes_make_the_same_bytes(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(40))
    extract([bag], tmp_path / "one", PLAIN, workers=1)
    extract([bag], tmp_path / "two", PLAIN, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
