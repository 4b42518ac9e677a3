"""Which image gets which camera, from files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from loaded_frames import loaded, same
from seeing_detector import YAML, picture

from kd3d_core.data.camera_file import read_camera_file
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.offline.image_files import HandCalibration, image_source, images_in, kitti_source

ALL = slice(None)
INTRINSICS = HandCalibration(intrinsics=(72.0, 73.0, 62.5, 21.5), camera_height=1.2)


def test_kitti_frames_have_their_own_calibration_and_labels(kitti: Path) -> None:
    dataset = KittiDataset(kitti)
    source = kitti_source(kitti, slice(1, None), 10.0)
    frames = loaded(source)
    assert [frame.name for frame in frames] == ["000001", "000002", "000003"]
    assert source.count == 3
    assert np.diff([frame.stamp_ns for frame in frames]).tolist() == [10**8, 10**8]
    for frame in frames:
        files = dataset.frame(frame.name)
        np.testing.assert_array_equal(frame.image, files.image())
        assert same(frame.camera, files.camera())
    (label,) = dataset[1].objects()
    expected = label_boxes([label], frames[0].camera.lidar_from_camera)
    np.testing.assert_array_equal(frames[0].truth.boxes, expected)
    assert frames[0].truth.names == ("Car",)
    assert frames[1].truth is None


def test_frames_without_an_image_are_none(kitti: Path) -> None:
    (kitti / "training" / "image_2" / "000000.png").unlink()
    assert kitti_source(kitti, ALL, 10.0).count == 3
    for path in (kitti / "training" / "calib").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="give the image_2 folder with --calib"):
        kitti_source(kitti, ALL, 10.0)


def test_intrinsics_by_hand(kitti: Path) -> None:
    images = images_in(kitti / "training" / "image_2")
    frame, *_ = loaded(image_source(images, INTRINSICS, ALL, 10.0))
    assert frame.name == "000000"
    assert frame.camera.projection[[0, 1, 0, 1], [0, 1, 2, 2]].tolist() == [72, 73, 62.5, 21.5]
    assert (frame.camera.width, frame.camera.height) == (126, 44)
    assert frame.extrinsics.parent == "kd3d_lidar"
    np.testing.assert_array_equal(frame.camera.lidar_from_camera, virtual_lidar_from_camera(1.2))


def test_kitti_calibration_for_images_beside_it(kitti: Path) -> None:
    calib = kitti / "training" / "calib" / "000000.txt"
    image = kitti / "training" / "image_2" / "000002.png"
    source = image_source([image], HandCalibration(calib), ALL, 10.0)
    assert source.results_frame == "velodyne"
    assert same(loaded(source)[0].camera, KittiDataset(kitti)[2].camera())


def test_camera_files_of_ros(kitti: Path, tmp_path: Path) -> None:
    path = tmp_path / "front.yaml"
    path.write_text(YAML)
    images = images_in(kitti / "training" / "image_2")
    noise = np.random.default_rng(0).integers(0, 255, (6, 18, 3), np.uint8)
    cv2.imwrite(str(images[0]), cv2.resize(noise, (126, 44), interpolation=cv2.INTER_CUBIC))
    (rectified, *_) = loaded(image_source(images, HandCalibration(path), ALL, 10.0))
    assert rectified.camera.focal_px == 60
    assert rectified.camera.distortion is None
    raw = HandCalibration(path, rectified=False)
    (frame, *_) = loaded(image_source(images, raw, ALL, 10.0))
    distortion = frame.camera.distortion
    assert distortion.coefficients.tolist() == [-0.3, 0.1, 0.001, 0, 0]
    assert distortion.intrinsics[0, 0] == 70
    # Boxes are drawn on what OpenCV makes of the raw image.
    info = read_camera_file(path).info
    k, p = info.k.reshape(3, 3), info.p.reshape(3, 4)[:, :3]
    maps = cv2.initUndistortRectifyMap(k, info.d, np.eye(3), p, (126, 44), cv2.CV_32FC1)
    expected = cv2.remap(frame.image, *maps, cv2.INTER_LINEAR)
    inner = slice(4, -4)
    difference = np.abs(frame.rectified_image.astype(int) - expected.astype(int))[inner, inner]
    assert difference.max() <= 2
    assert np.abs(frame.image.astype(int) - expected.astype(int))[inner, inner].max() > 20


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("image_width: 126", "image_width: wide"), "image_width"),
        (("camera_matrix:", "camera_matrx:"), "known are ROS camera_calibration"),
        (
            ("[70, 0, 60, 0, 71, 20, 0, 0, 1]", "[70, 0]"),
            r"camera_matrix\.data has 2 numbers, 9 are needed",
        ),
        (("[-0.3, 0.1, 0.001, 0, 0]", "[a, b]"), r"distortion_coefficients\.data"),
        (("image_height: 44", "image_height: [44"), "no valid YAML"),
        (("[60, 0, 62", "[-60, 0, 62"), "focal lengths"),
    ],
)
def test_camera_files_that_are_wrong_say_where(kitti: Path, tmp_path: Path, edit, reason) -> None:
    path = tmp_path / "front.yaml"
    assert edit[0] in YAML
    path.write_text(YAML.replace(*edit, 1))
    images = images_in(kitti / "training" / "image_2")
    with pytest.raises(CalibrationError, match=reason) as caught:
        image_source(images, HandCalibration(path), ALL, 10.0)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "--calib FILE, or --intrinsics"),
        ({"file": Path("a.txt"), "intrinsics": (1, 2, 3, 4)}, "one calibration"),
        ({"intrinsics": (700.0, 700.0)}, "2 numbers"),
        ({"intrinsics": (700.0, 700.0, 10.0, 10.0), "rectified": False}, "--raw-images"),
    ],
)
def test_calibrations_that_cannot_be(arguments, reason) -> None:
    with pytest.raises(CalibrationError, match=reason):
        HandCalibration(**arguments)


def test_images_of_another_size_than_the_first_keep_its_camera(tmp_path: Path) -> None:
    broken, one, other = (tmp_path / f"{name}.png" for name in "abc")
    broken.write_bytes(b"")
    cv2.imwrite(str(one), picture(10))
    cv2.imwrite(str(other), picture(10, width=100))
    source = image_source([broken, one, other], INTRINSICS, ALL, 10.0)
    unreadable, first, second = source.references
    with pytest.raises(DataError, match=r"a\.png"):
        unreadable.load()
    assert first.load().camera.width == 126
    # The detector refuses it, and says both sizes.
    assert second.load().camera.width == 126
    assert second.load().image.shape[1] == 100


def test_images_of_one_name_and_no_image_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / "1" / "a.png", tmp_path / "2" / "a.jpg"]
    with pytest.raises(DataError, match="several images are called a"):
        image_source(paths, INTRINSICS, ALL, 10.0)
    with pytest.raises(DataError, match="none of the 1 images"):
        image_source(paths[:1], INTRINSICS, ALL, 10.0)
