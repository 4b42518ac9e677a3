"""Which image of a bag gets which camera."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from loaded_frames import loaded, same
from seeing_detector import picture

from kd3d_core.data.bag import BagWriter
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import write_kitti_bag
from kd3d_core.errors import DataError, ImageError, Kd3dError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.pose import pose_from_matrix
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    Message,
    Transform,
    Transforms,
)
from kd3d_core.offline.bag_source import BagSettings, bag_source
from kd3d_core.offline.image_files import kitti_source

ALL = slice(None)


def write(path: Path, *messages: tuple[float, str, Message]) -> Path:
    """A bag of messages, each with the second at which it was recorded, and its topic."""
    with BagWriter(path) as writer:
        known = set()
        for second, topic, message in messages:
            if topic not in known:
                qos = LATCHED if isinstance(message, Transforms) else None
                writer.add_topic(topic, message.ros_type, qos)
                known.add(topic)
            writer.write(topic, round(second * 1e9), message)
    return path


def image(second: float, brightness: int = 50, frame_id: str = "camera") -> Image:
    return Image.from_rgb(picture(brightness), round(second * 1e9), frame_id)


def info(second: float, focal: float = 72.0, width: int = 126) -> CameraInfo:
    projection = np.array([[focal, 0, 63, 0], [0, focal, 22, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, width, 44, np.eye(4))
    return CameraInfo.of_camera(camera, round(second * 1e9), "camera")


def transform(second: float, height: float, parent: str = "base", child: str = "camera"):
    pose = np.eye(4)
    pose[2, 3] = height
    return Transforms((Transform(round(second * 1e9), parent, child, pose),))


def test_a_bag_of_kitti_gives_the_frames_of_the_folder(kitti: Path, tmp_path: Path) -> None:
    write_kitti_bag(KittiDataset(kitti).subset(["000000", "000001"]), tmp_path / "bag", 5.0)
    settings = BagSettings(detector_frame="velodyne")
    source = bag_source(tmp_path / "bag", settings, ALL)
    assert (source.count, source.results_frame) == (2, "velodyne")
    assert source.rate_hz == pytest.approx(5.0)
    expected = loaded(kitti_source(kitti, slice(0, 2), 5.0))
    for frame, other in zip(loaded(source), expected, strict=True):
        assert (frame.name, frame.stamp_ns) == (other.name, other.stamp_ns)
        np.testing.assert_array_equal(frame.image, other.image)
        assert same(frame.camera, other.camera)
        np.testing.assert_allclose(frame.truth.boxes, other.truth.boxes, atol=1e-5)
        assert frame.extrinsics is None
    # Labels are in the LiDAR's frame; a frame that is made up isn't that.
    (virtual,) = loaded(bag_source(tmp_path / "bag", BagSettings(camera_height=1.1), slice(1, 2)))
    assert virtual.name == "000001"
    assert virtual.truth is None
    np.testing.assert_array_equal(virtual.camera.lidar_from_camera, virtual_lidar_from_camera(1.1))
    assert (virtual.extrinsics.parent, virtual.extrinsics.child) == ("camera_optical", "kd3d_lidar")
    np.testing.assert_allclose(
        virtual.extrinsics.parent_from_child @ virtual.camera.lidar_from_camera, np.eye(4)
    )


@pytest.mark.parametrize("lasts_s", [1.0, 3.0, 1000.0])
def test_the_rate_is_that_of_the_images_however_long_other_topics_last(
    tmp_path: Path, lasts_s: float
) -> None:
    images = [(second, "/image", image(second)) for second in (2000.0, 2000.2, 2000.4, 2000.6)]
    around = [(second, "/info", info(second)) for second in (2000 - lasts_s, 2000.6 + lasts_s)]
    path = write(tmp_path / "bag", around[0], *images, around[1])
    source = bag_source(path, BagSettings(), slice(1, 3))
    assert source.rate_hz == pytest.approx(5.0)
    assert source.names == tuple(reference.name for reference in source.references)
    assert source.names == ("000001", "000002")


def test_one_image_has_no_rate_of_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bag", (1.0, "/info", info(1.0)), (2.0, "/image", image(2.0)),
        (9.0, "/info", info(9.0)),
    )  # fmt: skip
    assert bag_source(path, BagSettings(), ALL).rate_hz == 10.0


def test_images_get_the_latest_info_of_their_time_and_the_first_wait_for_one(
    tmp_path: Path,
) -> None:
    path = write(
        tmp_path / "bag",
        (1.0, "/image", image(1.0)),
        (2.0, "/info", info(2.0, 72)),
        (2.1, "/image", image(2.0)),
        (3.0, "/image", image(3.0)),
        (3.1, "/info", info(3.0, 80)),
    )
    focals = [frame.camera.focal_px for frame in loaded(bag_source(path, BagSettings(), ALL))]
    assert focals == [72, 72, 80]


def test_transforms_count_from_when_they_were_recorded(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bag",
        (1.0, "/info", info(1.0)),
        (1.0, "/image", image(1.0)),
        (2.0, "/tf_static", transform(0.0, 1.5)),
        (3.0, "/image", image(3.0)),
        (4.0, "/tf_static", transform(0.0, 2.5)),
        (5.0, "/image", image(5.0)),
    )
    source = bag_source(path, BagSettings(detector_frame="base"), ALL)
    heights = [frame.camera.lidar_from_camera[2, 3] for frame in loaded(source)]
    assert heights == [1.5, 1.5, 2.5]
    missing = bag_source(path, BagSettings(detector_frame="lidar"), ALL)
    for reference in missing.references:
        with pytest.raises(Kd3dError, match="'lidar' unknown"):
            reference.load()


def test_a_camera_on_tf_is_where_it_was_at_the_stamp_of_the_image(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bag",
        (1.0, "/info", info(1.0)),
        (1.0, "/tf", transform(1.0, 1.0)),
        (1.5, "/image", image(1.25)),
        (2.0, "/tf", transform(2.0, 3.0)),
        (2.4, "/image", image(2.25)),
        (9.0, "/image", image(9.0)),
    )
    references = iter(bag_source(path, BagSettings(detector_frame="base"), ALL).references)
    assert next(references).load().camera.lidar_from_camera[2, 3] == 1.5
    for reference in references:
        with pytest.raises(Kd3dError, match=r"'camera' moves .* from 1\.0+ to 2\.0+ s, not at"):
            reference.load()


def test_a_frame_that_tf_never_moves_is_taken_for_fixed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        tmp_path / "bag",
        (1.0, "/info", info(1.0)),
        (1.0, "/tf", transform(0.5, 2.0)),
        (2.0, "/image", image(2.0)),
        (3.0, "/tf", transform(2.5, 2.0)),
        (5.0, "/tf", transform(5.0, 2.0)),
        (9.0, "/image", image(9.0)),
    )
    frames = loaded(bag_source(path, BagSettings(detector_frame="base"), ALL))
    assert [frame.camera.lidar_from_camera[2, 3] for frame in frames] == [2, 2]
    assert caplog.messages == [
        f"{path}: /tf has one pose only, which is taken for fixed, of camera"
    ]


def test_messages_without_stamps_get_the_bags_time_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        tmp_path / "bag",
        (1.0, "/info", info(0.0, 72)),
        (1.0, "/tf", transform(0.0, 1.0)),
        (2.0, "/image", image(0.0)),
        (3.0, "/tf", transform(0.0, 3.0)),
        (3.0, "/info", info(0.0, 80)),
        (3.0, "/image", image(0.0)),
    )
    frames = loaded(bag_source(path, BagSettings(detector_frame="base"), ALL))
    assert [frame.stamp_ns for frame in frames] == [2 * 10**9, 3 * 10**9]
    assert [frame.camera.focal_px for frame in frames] == [72, 80]
    assert [frame.camera.lidar_from_camera[2, 3] for frame in frames] == [2, 3]
    assert [record.message for record in caplog.records if "stamp" in record.message] == [
        f"{path}: images on /image have no stamp: the bag's time is used"
    ]


def test_a_stamp_centuries_away_does_not_decide_the_rate_of_a_video(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(
        tmp_path / "bag",
        *((second, "/image", image(1.0)) for second in (1.0, 2.0, 9e9)),
        (1.0, "/info", info(1.0)),
    )
    assert bag_source(path, BagSettings(), ALL).rate_hz == 10
    assert "some must be wrong" in caplog.text


def test_a_bad_transform_is_told_and_left_out(tmp_path: Path, caplog) -> None:
    path = write(
        tmp_path / "bag",
        (1.0, "/info", info(1.0)),
        (1.0, "/tf_static", transform(0.0, 1.5)),
        (1.1, "/tf_static", transform(0.0, 1.0, "camera", "base")),
        (2.0, "/image", image(2.0)),
    )
    (frame,) = loaded(bag_source(path, BagSettings(detector_frame="base"), ALL))
    assert frame.camera.lidar_from_camera[2, 3] == 1.5
    assert "closes a circle" in caplog.text


def test_a_transform_that_is_no_pose_is_told_and_the_others_are_used(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    good = transform(0.0, 1.5).transforms[0]
    none = Transform(0, "base", "gripper", np.zeros((4, 4)))

    def as_it_is(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return pose_from_matrix(matrix) if matrix.any() else (np.zeros(3), np.zeros(4))

    monkeypatch.setattr("kd3d_core.messages.encode.pose_from_matrix", as_it_is)
    path = write(
        tmp_path / "bag",
        (1.0, "/info", info(1.0)),
        (1.0, "/tf_static", Transforms((none, good))),
        (2.0, "/image", image(2.0)),
    )
    (frame,) = loaded(bag_source(path, BagSettings(detector_frame="base"), ALL))
    assert frame.camera.lidar_from_camera[2, 3] == 1.5
    assert "base -> gripper is left out" in caplog.text


def test_a_damaged_info_is_told_and_the_others_are_used(tmp_path: Path, caplog) -> None:
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        for topic, kind in (("/info", "CameraInfo"), ("/image", "Image")):
            writer.add_topic(topic, f"sensor_msgs/msg/{kind}", QosProfile())
        writer.write("/info", 10**9, info(1.0))
        writer.write("/info", 2 * 10**9, b"\0\1\0\0cut")
        writer.write("/image", 3 * 10**9, image(3.0))
    (frame,) = loaded(bag_source(path, BagSettings(), ALL))
    assert frame.camera.width == 126
    assert "/info is left out" in caplog.text


def test_bad_images_of_a_bag_are_bad_frames_and_the_others_are_not(tmp_path: Path) -> None:
    good = image(1.0)
    cut = Image(10**9, "camera", 44, 126, "rgb8", 378, good.data[:-1])
    unknown = Image(10**9, "camera", 44, 126, "32FC1", 504, good.data[: 126 * 44])
    path = write(
        tmp_path / "bag",
        (0.5, "/info", info(0.5)),
        (1.0, "/image", cut),
        (1.1, "/image", unknown),
        (1.2, "/image", good),
    )
    first, second, third = bag_source(path, BagSettings(), ALL).references
    with pytest.raises(ImageError, match="incomplete"):
        first.load()
    with pytest.raises(ImageError, match="32FC1"):
        second.load()
    np.testing.assert_array_equal(third.load().image, picture(50))


def test_the_infos_size_must_be_the_images(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bag", (1.0, "/info", info(1.0, width=100)), (1.0, "/image", image(1.0))
    )
    (reference,) = bag_source(path, BagSettings(), ALL).references
    with pytest.raises(Kd3dError, match="image is 126 x 44 but its CameraInfo says 100 x 44"):
        reference.load()


def test_topics_are_found_by_type_and_place(tmp_path: Path) -> None:
    two = write(
        tmp_path / "two",
        (1.0, "/left/image", image(1.0, 10)),
        (1.0, "/left/camera_info", info(1.0, 71)),
        (1.0, "/right/image", image(1.0, 90)),
        (1.0, "/right/camera_info", info(1.0, 72)),
    )
    with pytest.raises(DataError, match="/left/image, /right/image: choose with --image-topic"):
        bag_source(two, BagSettings(), ALL)
    (frame,) = loaded(bag_source(two, BagSettings(image_topic="/right/image"), ALL))
    assert (frame.camera.focal_px, frame.image[0, 0, 0]) == (72, 90)
    other = BagSettings(image_topic="/right/image", info_topic="/left/camera_info")
    assert loaded(bag_source(two, other, ALL))[0].camera.focal_px == 71
    with pytest.raises(DataError, match="on /up; there is /left/image, /right/image"):
        bag_source(two, BagSettings(image_topic="/up"), ALL)
    bare = write(tmp_path / "bare", (1.0, "/left/image", image(1.0)))
    with pytest.raises(DataError, match=r"no sensor_msgs/CameraInfo in it; it has /left/im"):
        bag_source(bare, BagSettings(), ALL)


def compressed(raw: Image, ending: str = ".png", drop: int = 0) -> CompressedImage:
    """The same image as image_transport compresses it, without its last bytes."""
    data = cv2.imencode(ending, raw.rgb()[..., ::-1])[1]
    layout = {".png": "rgb8; png compressed bgr8", ".jpg": "rgb8; jpeg compressed bgr8"}[ending]
    return CompressedImage(raw.stamp_ns, raw.frame_id, layout, data[: len(data) - drop])


def test_compressed_images_give_the_frames_of_raw_ones(tmp_path: Path) -> None:
    raws = [image(second, 40 * second) for second in (1, 2)]
    around = [(0.5, "/cam/camera_info", info(0.5)), (0.5, "/tf_static", transform(0.5, 1.5))]
    path = write(tmp_path / "raw", *around, *((1, "/cam/image", raw) for raw in raws))
    expected = loaded(bag_source(path, BagSettings(), ALL))
    for ending, most in ((".png", 0), (".jpg", 3)):
        topic = "/cam/image/compressed"
        messages = [(1, topic, compressed(raw, ending)) for raw in raws]
        path = write(tmp_path / ending, *around, *messages)
        for frame, other in zip(
            loaded(bag_source(path, BagSettings(), ALL)), expected, strict=True
        ):
            assert np.abs(frame.image.astype(int) - other.image).max() <= most
            assert same(frame.camera, other.camera)
            assert (frame.name, frame.stamp_ns) == (other.name, other.stamp_ns)
            np.testing.assert_array_equal(
                frame.extrinsics.parent_from_child, other.extrinsics.parent_from_child
            )


def test_damaged_compressed_images_are_bad_frames_and_the_others_are_not(tmp_path: Path) -> None:
    good = image(1.0)
    path = write(
        tmp_path / "bag",
        (0.5, "/info", info(0.5)),
        (1.0, "/image/compressed", compressed(good, ".jpg", drop=40)),
        (1.1, "/image/compressed", CompressedImage(10**9, "camera", "png", good.data)),
        (1.2, "/image/compressed", compressed(good)),
    )
    cut_off, other, third = bag_source(path, BagSettings(), ALL).references
    with pytest.raises(ImageError, match="cut off or damaged"):
        cut_off.load()
    with pytest.raises(ImageError, match="neither PNG nor JPEG"):
        other.load()
    np.testing.assert_array_equal(third.load().image, picture(50))


def test_raw_images_are_taken_where_there_are_both(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bag",
        (0.5, "/cam/camera_info", info(0.5)),
        (0.5, "/other/camera_info", info(0.5)),
        (1.0, "/cam/image", image(1.0, 10)),
        (1.0, "/cam/image/compressed", compressed(image(1.0, 90))),
        (1.0, "/cam/image/compressedDepth", compressed(image(1.0, 130))),
    )
    (frame,) = loaded(bag_source(path, BagSettings(), ALL))
    assert frame.image[0, 0, 0] == 10
    (frame,) = loaded(bag_source(path, BagSettings(image_topic="/cam/image/compressed"), ALL))
    assert frame.image[0, 0, 0] == 90
