"""Bags from KITTI folders."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.data import kitti_bag
from kd3d_core.data.bag import BagReader
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.geometry.camera_info import camera_from_info
from kd3d_core.messages.qos import LATCHED
from kd3d_core.messages.types import Message


@pytest.fixture(scope="module")
def frames(tracking: KittiDataset) -> KittiDataset:
    return tracking.subset(["000000", "000001", "000010"])


@pytest.fixture(scope="module")
def messages(
    frames: KittiDataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[tuple[int, Message]]]:
    path = tmp_path_factory.mktemp("bags") / "kitti"
    kitti_bag.write_kitti_bag(frames, path, rate_hz=10)
    found: dict[str, list[tuple[int, Message]]] = {}
    with BagReader(path) as reader:
        assert reader.topics["/tf_static"].qos == LATCHED
        for raw in reader.messages():
            found.setdefault(raw.topic, []).append((raw.stamp_ns, reader.decode(raw)))
    return found


def test_every_frame_has_one_stamp_on_all_topics(messages) -> None:
    assert {topic: len(found) for topic, found in messages.items()} == {
        "/tf_static": 1,
        "/camera/camera_info": 3,
        "/camera/image_raw": 3,
        "/velodyne_points": 3,
        "/ground_truth": 3,
    }
    for topic, found in messages.items():
        if topic != "/tf_static":
            logged = [stamp for stamp, _ in found]
            assert [message.stamp_ns for _, message in found] == logged
            assert np.diff(logged).tolist() == [10**8, 10**8]


def test_images_and_points_are_those_of_the_files(frames: KittiDataset, messages) -> None:
    for frame, (_, image), (_, cloud) in zip(
        frames, messages["/camera/image_raw"], messages["/velodyne_points"], strict=True
    ):
        assert image.frame_id == "camera_optical"
        np.testing.assert_array_equal(image.rgb(), frame.image())
        assert cloud.frame_id == "velodyne"
        np.testing.assert_array_equal(cloud.points, frame.points())
    # Full scans where there are any, the camera's field of view elsewhere.
    assert [len(cloud.points) > 50_000 for _, cloud in messages["/velodyne_points"]] == [
        True,
        False,
        True,
    ]


def test_the_bags_camera_is_the_calibrations(frames: KittiDataset, messages) -> None:
    expected = frames[0].camera()
    _, info = messages["/camera/camera_info"][0]
    (transform,) = messages["/tf_static"][0][1].transforms
    assert (transform.parent, transform.child) == ("velodyne", "camera_optical")
    np.testing.assert_array_equal(info.p.reshape(3, 4), expected.projection)
    np.testing.assert_array_equal(info.k.reshape(3, 3), expected.projection[:, :3])
    assert not info.d.any()
    np.testing.assert_array_equal(info.r.reshape(3, 3), np.eye(3))
    camera = camera_from_info(info, transform.parent_from_child)
    points = frames[0].points_in_view().astype(np.float64)
    pixels, depth = camera.project(points)
    true_pixels, true_depth = expected.project(points)
    # Calibration files are orthonormal to 1e-6 or so, a quaternion is exactly.
    np.testing.assert_allclose(pixels, true_pixels, atol=2e-2)
    np.testing.assert_allclose(depth, true_depth, atol=1e-3)


def test_ground_truth_is_the_labels_without_dont_care(frames: KittiDataset, messages) -> None:
    for frame, (_, truth) in zip(frames, messages["/ground_truth"], strict=True):
        objects = frame.objects()
        assert truth.frame_id == "velodyne"
        assert truth.names == tuple(label.type for label in objects)
        assert set(truth.scores) <= {1.0}
        boxes = label_boxes(objects, frame.camera().lidar_from_camera)
        np.testing.assert_allclose(truth.boxes, boxes, atol=1e-5)


def test_labels_without_a_sound_box_are_left_out_and_counted(
    frames: KittiDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data"
    for part in ("image_2", "calib", "label_2"):
        (root / part).mkdir(parents=True)
        source = frames[0].path(part)
        (root / part / source.name).write_bytes(source.read_bytes())
    path = root / "label_2" / "000000.txt"
    sound = len(frames[0].objects())
    rest = "0 0 0 10 10 90 90"
    lines = [
        f"Car {rest} 0 0 0 5 1 10 0",
        f"Car {rest} -1 -1 -1 5 1 10 0",
        f"dontcare {rest} -1 -1 -1 -1000 -1000 -1000 -10",
        f"Car {rest} 1.5 -1.6 4 5 1 10 0",
        f"Car {rest} 1.5 1.6 4 0 0 0 0",
    ]
    path.write_text(path.read_text().rstrip() + "\n" + "\n".join(lines) + "\n")
    kitti_bag.write_kitti_bag(KittiDataset(root), tmp_path / "bag")
    with BagReader(tmp_path / "bag") as reader:
        (raw,) = reader.messages(["/ground_truth"])
        truth = reader.decode(raw)
    assert len(truth.boxes) == len(truth.names) == sound
    assert truth.boxes[:, 3:6].min() > 0
    assert "labels left out: 2 without a 3D box, 1 with a size" in caplog.text


def test_calibration_that_changes_is_published_again(
    kitti_object: KittiDataset, tmp_path: Path
) -> None:
    names = ["000000", "000001", "000002"]
    poses = [kitti_object.frame(name).camera().lidar_from_camera for name in names]
    changes = 1 + sum(not np.array_equal(a, b) for a, b in pairwise(poses))
    assert changes > 1
    counts = kitti_bag.write_kitti_bag(kitti_object.subset(names), tmp_path / "bag")
    assert counts["/tf_static"] == changes
