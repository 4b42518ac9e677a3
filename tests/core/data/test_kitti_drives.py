"""Raw drives and tracking sequences of KITTI, as they are unpacked, made small."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd3d_core.data.bag import BagReader
from kd3d_core.data.kitti_bag import write_drive_bag
from kd3d_core.data.kitti_drives import (
    START_NS,
    Drive,
    is_raw_drive,
    read_raw_drive,
    read_tracking_sequence,
    tracking_sequences,
)
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.messages.types import Message

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 48, 64
FULL_HEIGHT, FULL_WIDTH = 60, 80
TURN = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # of the velodyne's axes to a camera's
ROTATED = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]
SHIFT = np.array([0.02, -0.08, -0.27])
IMU_SHIFT = np.array([-0.81, 0.32, -0.8])
P2 = np.array([[72.0, 0, 32, 4.5], [0, 72, 24, 0.2], [0, 0, 1, 0.003]])
P3 = np.array([[72.0, 0, 32, -34], [0, 72, 24, 0.2], [0, 0, 1, 0.003]])
FRAMES = 4
FIRST = datetime(2011, 9, 26, 13, 2, 25, tzinfo=timezone.utc)


def numbers(values: object) -> str:
    return " ".join(f"{value:.12e}" for value in np.asarray(values, float).reshape(-1))


def write_image(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), RNG.integers(0, 256, (height, width, 3), np.uint8))


def write_points(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = RNG.uniform([2, -10, -2, 0], [40, 10, 2, 1], (50, 4)).astype("<f4")
    path.write_bytes(points.tobytes())


def packet(number: int) -> str:
    """1 m to the north a frame, looking there."""
    latitude = 49.0 + np.rad2deg(number / 6_378_137)
    return numbers([latitude, 8.4, 116.0, 0, 0, np.pi / 2, *[0] * 24])


def stamps(late_ms: int) -> str:
    """Times of a sensor, 0.1 s apart, as KITTI writes them."""
    moments = [FIRST + timedelta(milliseconds=100 * n + late_ms) for n in range(FRAMES)]
    return "".join(f"{moment:%Y-%m-%d %H:%M:%S.%f}123\n" for moment in moments)


def stamp_of(number: int, late_ms: int) -> int:
    moment = FIRST + timedelta(milliseconds=100 * number + late_ms)
    since = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return since // timedelta(microseconds=1) * 1000 + 123


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A synchronised drive of two cameras, velodyne and GPS/IMU, each with stamps of its own."""
    root = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    for camera in ("02", "03"):
        for number in range(FRAMES):
            write_image(root / f"image_{camera}" / "data" / f"{number:010d}.png")
        (root / f"image_{camera}" / "timestamps.txt").write_text(stamps(0 if camera == "02" else 1))
    for number in (0, 1, 3):  # as of drive 0009, a scan is lacking
        write_points(root / "velodyne_points" / "data" / f"{number:010d}.bin")
    (root / "velodyne_points" / "timestamps.txt").write_text(stamps(7))
    (root / "oxts" / "data").mkdir(parents=True)
    for number in range(FRAMES):
        (root / "oxts" / "data" / f"{number:010d}.txt").write_text(packet(number))
    (root / "oxts" / "timestamps.txt").write_text(stamps(12))
    lines = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.95e-02"]
    for camera, projection in (("00", P2), ("02", P2), ("03", P3)):
        lines += [
            f"S_{camera}: {numbers([FULL_WIDTH, FULL_HEIGHT])}",
            f"K_{camera}: {numbers([[90, 0, 40], [0, 90, 30], [0, 0, 1]])}",
            f"D_{camera}: {numbers([-0.3, 0.1, 0, 0, 0])}",
            f"R_{camera}: {numbers(np.eye(3))}",
            f"T_{camera}: {numbers([0, 0, 0])}",
            f"S_rect_{camera}: {numbers([WIDTH, HEIGHT])}",
            f"R_rect_{camera}: {numbers(ROTATED)}",
            f"P_rect_{camera}: {numbers(projection)}",
        ]
    (root.parent / "calib_cam_to_cam.txt").write_text("\n".join(lines) + "\n")
    (root.parent / "calib_velo_to_cam.txt").write_text(
        f"calib_time: 15-Mar-2012 11:37:16\nR: {numbers(TURN)}\nT: {numbers(SHIFT)}\n"
        "delta_f: 0 0\ndelta_c: 0 0\n"
    )
    (root.parent / "calib_imu_to_velo.txt").write_text(
        f"calib_time: 25-May-2012 16:47:16\nR: {numbers(np.eye(3))}\nT: {numbers(IMU_SHIFT)}\n"
    )
    return root


@pytest.fixture
def tracking_set(tmp_path: Path) -> Path:
    """Two sequences, the second with labels, points and GPS/IMU."""
    root = tmp_path / "tracking" / "training"
    for sequence in ("0000", "0001"):
        for number in range(FRAMES):
            write_image(root / "image_02" / sequence / f"{number:06d}.png")
    for number in (0, 2, 3):
        write_points(root / "velodyne" / "0001" / f"{number:06d}.bin")
    for part in ("label_02", "oxts", "calib"):
        (root / part).mkdir()
    car = "Car 0 0 -1.5 10 10 40 40 1.5 1.6 3.9 2.0 1.6 12.0 -1.5"
    (root / "label_02" / "0001.txt").write_text(
        f"0 0 {car}\n0 -1 DontCare -1 -1 -10 1 1 5 5 -1000 -1000 -1000 -10 -1 -1 -1\n"
        f"2 0 {car}\n2 1 {car.replace('Car', 'Van').replace('12.0', '20.0')}\n"
    )
    (root / "oxts" / "0001.txt").write_text("\n".join(map(packet, range(FRAMES))) + "\n")
    velo = np.column_stack([TURN, SHIFT])
    imu = np.column_stack([np.eye(3), IMU_SHIFT])
    text = (
        f"P0: {numbers(P2)}\nP1: {numbers(P2)}\nP2: {numbers(P2)}\nP3: {numbers(P3)}\n"
        f"R_rect {numbers(ROTATED)}\nTr_velo_cam {numbers(velo)}\nTr_imu_velo {numbers(imu)}\n"
    )
    for sequence in ("0000", "0001"):
        (root / "calib" / f"{sequence}.txt").write_text(text)
    return root


def contents(bag: Path) -> dict[str, list[tuple[int, Message]]]:
    found: dict[str, list[tuple[int, Message]]] = {}
    with BagReader(bag) as reader:
        for raw in reader.messages():
            found.setdefault(raw.topic, []).append((raw.stamp_ns, reader.decode(raw)))
    return found


def check_transforms(found: dict[str, list[tuple[int, Message]]]) -> None:
    """From the car's odometry down to the camera."""
    buffer = TransformBuffer(10**10)
    for topic, fixed in (("/tf_static", True), ("/tf", False)):
        for _, message in found[topic]:
            for move in message.transforms:
                stamp = None if fixed else move.stamp_ns
                buffer.add(move.parent, move.child, move.parent_from_child, stamp)
    last = found["/tf"][-1][0]
    moved = buffer.lookup("odom", "base_link", last)
    np.testing.assert_allclose(moved[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(moved[:3, 3], [FRAMES - 1, 0, 0], atol=1e-3)
    camera_from_lidar = np.eye(4)
    camera_from_lidar[:3] = ROTATED @ np.column_stack([TURN, SHIFT])
    lidar_from_imu = np.eye(4)
    lidar_from_imu[:3, 3] = IMU_SHIFT
    expected = moved @ np.linalg.inv(camera_from_lidar @ lidar_from_imu)
    np.testing.assert_allclose(buffer.lookup("odom", "camera_optical", last), expected, atol=1e-6)


def test_a_raw_drive_keeps_the_times_of_its_sensors(raw: Path, tmp_path: Path) -> None:
    assert is_raw_drive(raw)
    counts = write_drive_bag(read_raw_drive(raw, (2, 3)), tmp_path / "bag")
    found = contents(tmp_path / "bag")
    assert {topic: len(messages) for topic, messages in found.items()} == counts == {
        "/tf_static": 1, "/camera/image_raw": 4, "/camera/camera_info": 4,
        "/camera_right/image_raw": 4, "/camera_right/camera_info": 4, "/velodyne_points": 3,
        "/tf": 4,
    }  # fmt: skip
    for topic, late_ms, frames in (
        ("/camera/image_raw", 0, (0, 1, 2, 3)),
        ("/camera_right/image_raw", 1, (0, 1, 2, 3)),
        ("/velodyne_points", 7, (0, 1, 3)),
    ):
        assert [stamp for stamp, _ in found[topic]] == [stamp_of(n, late_ms) for n in frames]
        assert [message.stamp_ns for _, message in found[topic]] == [s for s, _ in found[topic]]
    image = cv2.imread(str(raw / "image_03" / "data" / "0000000002.png"))[..., ::-1]
    np.testing.assert_array_equal(found["/camera_right/image_raw"][2][1].rgb(), image)
    info = found["/camera_right/camera_info"][2][1]
    np.testing.assert_allclose(info.p.reshape(3, 4), P3)
    assert not info.d.any()
    points = np.fromfile(raw / "velodyne_points" / "data" / "0000000003.bin", "<f4")
    np.testing.assert_array_equal(found["/velodyne_points"][2][1].points, points.reshape(-1, 4))
    check_transforms(found)


def test_images_of_a_raw_drive_that_are_not_rectified(raw: Path, tmp_path: Path) -> None:
    for number in range(FRAMES):
        path = raw / "image_02" / "data" / f"{number:010d}.png"
        write_image(path, FULL_HEIGHT, FULL_WIDTH)
    write_drive_bag(read_raw_drive(raw), tmp_path / "bag")
    info = contents(tmp_path / "bag")["/camera/camera_info"][0][1]
    assert (info.width, info.height) == (FULL_WIDTH, FULL_HEIGHT)
    np.testing.assert_allclose(info.d, [-0.3, 0.1, 0, 0, 0])
    np.testing.assert_allclose(info.r.reshape(3, 3), ROTATED)
    write_image(raw / "image_02" / "data" / f"{0:010d}.png", 10, 10)
    with pytest.raises(CalibrationError, match="neither S_rect_02 nor S_02"):
        write_drive_bag(read_raw_drive(raw), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_part_of_a_drive_has_what_belongs_to_its_images(raw: Path) -> None:
    part = read_raw_drive(raw, (2, 3)).part(slice(1, 3))
    names = {key: [path.stem[-1] for _, path in images] for key, images in part.images.items()}
    assert names == {2: ["1", "2"], 3: ["1", "2"]}
    assert [path.stem[-1] for _, path in part.clouds] == ["1"]
    assert len(part.poses) == 2


@pytest.mark.parametrize("period", [10, 11])
def test_parts_of_a_drive_have_each_scan_once(period: int) -> None:
    images = [(index * period, Path(f"{index}.png")) for index in range(4)]
    clouds = [(stamp, Path(f"{stamp}.bin")) for stamp in range(3 * period + 1)]
    drive = Drive({2: images}, clouds, None, {stamp: [] for stamp, _ in images}, [])
    parts = [drive.part(slice(index, index + 2)) for index in (0, 2)]
    assert [cloud for part in parts for cloud in part.clouds] == clouds
    assert [stamp for part in parts for stamp in part.labels] == [stamp for stamp, _ in images]


def test_a_tracking_sequence(tracking_set: Path, tmp_path: Path) -> None:
    for root in (tracking_set, tracking_set.parent):
        assert tracking_sequences(root) == ["0000", "0001"]
    drive = read_tracking_sequence(tracking_set.parent, "0001", 5.0)
    counts = write_drive_bag(drive, tmp_path / "bag")
    found = contents(tmp_path / "bag")
    assert counts == {
        "/tf_static": 1, "/camera/image_raw": 4, "/camera/camera_info": 4, "/velodyne_points": 3,
        "/ground_truth": 4, "/tf": 4,
    }  # fmt: skip
    assert [stamp - START_NS for stamp, _ in found["/velodyne_points"]] == [0, 4 * 10**8, 6 * 10**8]
    truths = [message for _, message in found["/ground_truth"]]
    assert [truth.names for truth in truths] == [("Car",), (), ("Car", "Van"), ()]
    pose = drive.camera(2, (HEIGHT, WIDTH)).lidar_from_camera
    labels = [label for label in drive.labels[START_NS] if label.is_object]
    np.testing.assert_allclose(truths[0].boxes, label_boxes(labels, pose), atol=1e-5)
    np.testing.assert_allclose(found["/camera/camera_info"][0][1].p.reshape(3, 4), P2)
    check_transforms(found)
    assert write_drive_bag(read_tracking_sequence(tracking_set, "0000", 10.0), tmp_path / "b2") == {
        "/tf_static": 1, "/camera/image_raw": 4, "/camera/camera_info": 4,
    }  # fmt: skip


def test_what_is_wrong_is_named(raw: Path, tracking_set: Path) -> None:
    times = raw / "image_02" / "timestamps.txt"
    good = times.read_text()
    times.write_text(good.replace("2011", "then", 1))
    with pytest.raises(DataError, match=r"timestamps\.txt:1: 'then-.*' is no time"):
        read_raw_drive(raw)
    times.write_text("".join(good.splitlines(True)[:2]))
    with pytest.raises(DataError, match=r"it has 2 lines, and none for 0000000002\.png"):
        read_raw_drive(raw)
    first = good.splitlines(True)
    times.write_text("".join([first[1], first[0], *first[2:]]))
    with pytest.raises(DataError, match=r"0000000001\.png isn't later"):
        read_raw_drive(raw)
    times.write_text(good)
    packets = raw / "oxts" / "data" / "0000000001.txt"
    packets.write_text("1 2 3")
    with pytest.raises(DataError, match=r"0000000001\.txt: a packet of oxts has 30"):
        read_raw_drive(raw)
    packets.write_text(packet(1))
    scans = raw / "velodyne_points" / "data"
    for path in scans.iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match="give the drive that ends in _sync"):
        read_raw_drive(raw)
    (raw.parent / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(CalibrationError, match="neither in it nor in the folder above"):
        read_raw_drive(raw)
    labels = tracking_set / "label_02" / "0001.txt"
    labels.write_text("Car 0 0 0\n")
    with pytest.raises(DataError, match=r"0001\.txt:1: a tracking label begins with frame"):
        read_tracking_sequence(tracking_set, "0001", 10.0)
    with pytest.raises(DataError, match="there is no image_03/0001"):
        read_tracking_sequence(tracking_set, "0001", 10.0, (2, 3))
