"""Which PinholeCamera an image gets, with plain objects in place of messages."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kd3d_core.geometry.pose import matrix_from_pose
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.rejection import NotYetError, RejectedError


def info(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "width": 64,
        "height": 48,
        "distortion_model": "plumb_bob",
        "d": [0.1, 0.0, 0.0, 0.0, 0.0],
        "k": [50, 0, 30, 0, 50, 20, 0, 0, 1],
        "r": [1, 0, 0, 0, 1, 0, 0, 0, 1],
        "p": [60, 0, 32, 0, 0, 60, 24, 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0),
    }
    return SimpleNamespace(**{**fields, **changes})


def image(width: int = 64, height: int = 48, frame_id: str = "camera") -> tuple[str, int, int]:
    return frame_id, width, height


def kind_of(source: CameraSource, picture: tuple[str, int, int]) -> str:
    with pytest.raises(RejectedError) as caught:
        source.camera(*picture)
    return caught.value.kind


def test_virtual_frame() -> None:
    source = CameraSource(TransformBuffer(), camera_height=1.2)
    source.set_info(info(), "info_frame")
    camera = source.camera(*image())
    np.testing.assert_array_equal(camera.lidar_from_camera, virtual_lidar_from_camera(1.2))
    assert camera.focal_px == 60
    assert camera.distortion is None
    assert source.is_virtual


def test_raw_images_are_undistorted() -> None:
    source = CameraSource(TransformBuffer(), image_is_rectified=False)
    source.set_info(info(), "info_frame")
    distortion = source.camera(*image()).distortion
    assert distortion is not None
    assert distortion.intrinsics[0, 0] == 50


def test_named_frame_comes_from_the_tree() -> None:
    frames = TransformBuffer()
    source = CameraSource(frames, detector_frame="lidar")
    source.set_info(info(), "info_frame")
    with pytest.raises(NotYetError, match="/tf_static") as caught:
        source.camera(*image())
    assert caught.value.kind == "no_transform"
    lidar_from_camera = matrix_from_pose((0, 0, -0.1), (-0.5, 0.5, -0.5, 0.5))
    frames.add("lidar", "camera", lidar_from_camera)
    np.testing.assert_array_equal(source.camera(*image()).lidar_from_camera, lidar_from_camera)


def test_a_camera_that_moves_is_where_it_was_at_the_stamp() -> None:
    frames = TransformBuffer()
    source = CameraSource(frames, detector_frame="lidar")
    source.set_info(info(), "info_frame")
    for stamp_ns in (0, 10):
        frames.add("lidar", "camera", matrix_from_pose((stamp_ns, 0, 0), (0, 0, 0, 1)), stamp_ns)
    assert source.camera(*image(), stamp_ns=4).lidar_from_camera[0, 3] == 4
    with pytest.raises(NotYetError, match="known from"):
        source.camera(*image(), stamp_ns=11)


def test_made_again_only_when_something_changes() -> None:
    frames = TransformBuffer()
    frames.add("lidar", "camera", np.eye(4))
    source = CameraSource(frames, detector_frame="lidar")
    source.set_info(info(), "info_frame")
    first = source.camera(*image())
    source.set_info(info(), "info_frame")  # another message of the same content
    assert source.camera(*image()) is first
    source.set_info(info(p=[61, 0, 32, 0, 0, 61, 24, 0, 0, 0, 1, 0]), "info_frame")
    second = source.camera(*image())
    assert second.focal_px == 61
    frames.add("lidar", "camera", matrix_from_pose((0, 0, 1), (0, 0, 0, 1)))
    assert source.camera(*image()).lidar_from_camera[2, 3] == 1


def test_no_info_yet() -> None:
    source = CameraSource(TransformBuffer())
    with pytest.raises(NotYetError, match="remap `camera_info`") as caught:
        source.camera(*image())
    assert caught.value.kind == "no_camera_info"


@pytest.mark.parametrize("focal", [float("nan"), 0.0, -5.0])
def test_impossible_focal_length(focal: float) -> None:
    source = CameraSource(TransformBuffer())
    source.set_info(info(p=[focal, 0, 32, 0, 0, focal, 24, 0, 0, 0, 1, 0]), "info_frame")
    assert kind_of(source, image()) == "bad_camera_info"
    assert kind_of(source, image()) == "bad_camera_info"
    source.set_info(info(), "info_frame")
    assert source.camera(*image()).focal_px == 60


def test_sizes_that_differ() -> None:
    source = CameraSource(TransformBuffer())
    source.set_info(info(), "info_frame")
    with pytest.raises(RejectedError, match=r"image is 32 x 48 .* says 64 x 48") as caught:
        source.camera(*image(width=32))
    assert caught.value.kind == "size_mismatch"


def test_binning_is_honoured_and_its_change_noticed() -> None:
    source = CameraSource(TransformBuffer())
    source.set_info(info(), "info_frame")
    assert source.camera(*image()).focal_px == 60
    source.set_info(info(binning_x=2, binning_y=2), "info_frame")
    assert source.camera(*image(width=32, height=24)).focal_px == 30
    region = SimpleNamespace(x_offset=8, y_offset=4, width=48, height=40)
    source.set_info(info(roi=region), "info_frame")
    assert source.camera(*image(width=48, height=40)).projection[:2, 2].tolist() == [24, 20]


def test_doubts_are_those_of_the_latest_camera() -> None:
    source = CameraSource(TransformBuffer(), image_topic="/camera/image_raw")
    assert source.doubts == ()
    source.set_info(info(), "info_frame")
    source.camera(*image())
    (doubt,) = source.doubts
    assert "/camera/image_raw" in doubt
    source.set_info(info(d=[]), "info_frame")
    source.camera(*image())
    assert source.doubts == ()


def test_empty_frame_id() -> None:
    frames = TransformBuffer()
    frames.add("lidar", "info_frame", np.eye(4))
    source = CameraSource(frames, detector_frame="lidar")
    source.set_info(info(), "info_frame")
    assert source.frame_of("") == "info_frame"
    np.testing.assert_array_equal(source.camera(*image(frame_id="")).lidar_from_camera, np.eye(4))
    source.set_info(info(), "")
    assert kind_of(source, image(frame_id="")) == "empty_frame_id"
    virtual = CameraSource(TransformBuffer())
    virtual.set_info(info(), "")
    assert virtual.camera(*image(frame_id="")).width == 64
