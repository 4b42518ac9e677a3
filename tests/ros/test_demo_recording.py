"""The demo's recording: images of one bag with the results of another."""

from dataclasses import replace

import numpy as np
import pytest

from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import CAMERA_FRAME, write_kitti_bag
from kd3d_core.errors import ImageError
from kd3d_core.messages.types import Image, ObjectBoxes, PointCloud
from kd3d_ros.demo_recording import Results, read_results, recorded_frames


@pytest.fixture
def bag(tracking: KittiDataset, tmp_path):
    write_kitti_bag(tracking.subset(tracking.names[:4]), tmp_path / "bag", 10.0)
    return tmp_path / "bag"


def stamps(bag) -> list[int]:
    with BagReader(bag) as reader:
        messages = map(reader.decode, reader.messages(tuple(reader.topics)))
        return [message.stamp_ns for message in messages if isinstance(message, Image)]


def results(stamp_ns: int) -> Results:
    nothing = ObjectBoxes(stamp_ns, "velodyne", np.zeros((0, 7), np.float32), (), np.zeros(0))
    return Results(np.zeros((0, 4), np.float32), nothing, stamp_ns)


def test_images_with_results_come_with_them_and_their_labels(bag, tracking):
    all_stamps = stamps(bag)
    wanted = {stamp: results(stamp) for stamp in (all_stamps[1], all_stamps[3])}
    found = list(recorded_frames(bag, wanted))
    assert [round(seconds, 6) for seconds, _, _ in found] == [0.1, 0.3]
    for (_, frame, result), index in zip(found, (1, 3), strict=True):
        assert result is wanted[frame.stamp_ns]
        assert np.array_equal(frame.image, tracking[index].image())
        labels = [label for label in tracking[index].labels() if label.is_object]
        assert frame.truth is not None
        assert len(frame.truth.boxes) == len(labels) > 0
        wanted_camera = tracking[index].camera()
        assert np.allclose(frame.camera.image_from_lidar, wanted_camera.image_from_lidar)
    assert list(recorded_frames(bag, {})) == []


@pytest.mark.parametrize("makes_points", [True, False])
def test_a_model_without_points_has_results_too(tmp_path, makes_points):
    cloud = PointCloud(7, "lidar", np.ones((5, 4), np.float32))
    with BagWriter(tmp_path / "bag") as writer:
        if makes_points:  # else the recorder's bag hasn't even their topic
            writer.add_topic("/node/points", PointCloud.ros_type)
            writer.write("/node/points", 7, cloud)
        writer.add_topic("/node/detections", ObjectBoxes.ros_type)
        for stamp in (7, 8):
            writer.write("/node/detections", stamp + 1, results(stamp).found)
    read = read_results(tmp_path / "bag", "node")
    # Points of the second image are still to come where there are points at all.
    assert sorted(read) == ([7] if makes_points else [7, 8])
    assert [len(each.points) for each in read.values()] == ([5] if makes_points else [0, 0])
    assert read[7].arrived_ns == 8


def test_an_image_that_the_node_had_to_reject_ends_nothing(bag, monkeypatch, caplog):
    all_stamps = stamps(bag)
    rgb = Image.rgb

    def damaged(image):
        if image.stamp_ns == all_stamps[2]:
            raise ImageError("encoding is bayer_gbrg16")
        return rgb(image)

    monkeypatch.setattr(Image, "rgb", damaged)
    wanted = {stamp: results(stamp) for stamp in all_stamps if stamp != all_stamps[2]}
    assert [frame.stamp_ns for _, frame, _ in recorded_frames(bag, wanted)] == list(wanted)
    assert "image 000002 is left out: encoding is bayer_gbrg16" in caplog.text


def test_labels_in_another_frame_are_left_out_and_named(bag, caplog):
    elsewhere = {
        stamp: replace(result, found=replace(result.found, frame_id=CAMERA_FRAME))
        for stamp, result in ((stamp, results(stamp)) for stamp in stamps(bag))
    }
    frames = [frame for _, frame, _ in recorded_frames(bag, elsewhere)]
    assert [frame.truth for frame in frames] == [None] * 4
    assert caplog.text.count("labels are in velodyne, not in camera_optical: left out") == 1
