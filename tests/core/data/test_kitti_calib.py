"""KITTI's calibration files."""

from pathlib import Path

import numpy as np
import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_calib import entry, kitti_camera, read_kitti_calib
from kd3d_core.errors import CalibrationError

WIDTH, HEIGHT = 1242, 375
TEXT = (
    "P2: 700 0 600 45 0 700 180 0.2 0 0 1 0.003\n"
    "R0_rect: 1 0 0 0 1 0 0 0 1\n"
    "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
)


def test_all_frames_of_the_samples_have_a_camera(
    tracking: KittiDataset, kitti_object: KittiDataset
) -> None:
    for dataset in (tracking, kitti_object):
        for frame in dataset:
            camera = frame.camera()
            assert (camera.height, camera.width) == frame.image().shape[:2]
            assert 700 < camera.focal_px < 730
            # The velodyne sits behind and above the camera, and looks the same way.
            x, y, z = camera.lidar_from_camera[:3, 3]
            assert 0.2 < x < 0.4
            assert abs(y) < 0.05
            assert -0.15 < z < 0
            forward = camera.lidar_from_camera[:3, :3] @ [0, 0, 1]
            assert forward[0] > 0.999


def test_every_recording_day_is_read(raw_calib_files: list[Path]) -> None:
    assert len(raw_calib_files) == 5
    focal = set()
    for path in raw_calib_files:
        matrices = read_kitti_calib(path)
        for camera_number in range(4):
            camera = kitti_camera(path, WIDTH, HEIGHT, camera=camera_number)
            np.testing.assert_array_equal(
                camera.projection, entry(matrices, f"P{camera_number}", (3, 4))
            )
        focal.add(camera.focal_px)
        rectified, velo_to_cam = np.eye(4), np.eye(4)
        rectified[:3, :3] = entry(matrices, "R0_rect", (3, 3))
        velo_to_cam[:3] = entry(matrices, "Tr_velo_to_cam", (3, 4))
        np.testing.assert_allclose(camera.camera_from_lidar, rectified @ velo_to_cam, atol=1e-9)
    assert len(focal) == 5


def test_names_of_the_tracking_layout_are_known(tmp_path: Path, tracking: KittiDataset) -> None:
    path = tracking[0].path("calib")
    text = path.read_text()
    for old, new in (("R0_rect:", "R_rect"), ("Tr_velo_to_cam:", "Tr_velo_cam")):
        text = text.replace(old, new)
    (tmp_path / "calib.txt").write_text(text)
    camera = kitti_camera(tmp_path / "calib.txt", WIDTH, HEIGHT)
    expected = kitti_camera(path, WIDTH, HEIGHT)
    np.testing.assert_array_equal(camera.image_from_lidar, expected.image_from_lidar)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("P2:", "P9:", "no line P2"),
        ("R0_rect: 1", "R0_rect: 1 1", "R0_rect has 10 numbers, 9 are needed"),
        ("R0_rect: 1 0 0 0 1", "R0_rect: 1 0 0 0 0", "no rotation"),
        ("R0_rect: 1", "R0_rect: 1.01", "rotation"),
        ("R0_rect: 1", "R0_rect: -1", "rotation"),
        ("R0_rect: 1", "R0_rect: x", r"calib\.txt: R0_rect is not a row"),
        ("P2: 700", "P2: 0", "focal"),
        ("P2: 700", "P2: 7", "degrees off the optical axis"),
        ("P2: 700", "P2: nan", "P2 has values that are not finite"),
        ("Tr_velo_to_cam: 0", "Tr_velo_to_cam: inf", "Tr_velo_to_cam .* not finite"),
    ],
)
def test_bad_calibration_files_are_named(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = tmp_path / "calib.txt"
    path.write_text(TEXT)
    kitti_camera(path, WIDTH, HEIGHT)
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(CalibrationError, match=reason) as error:
        kitti_camera(path, WIDTH, HEIGHT)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_calibration_files(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="absent"):
        kitti_camera(tmp_path / "absent.txt", 64, 32)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="binary"):
        kitti_camera(tmp_path / "binary.txt", 64, 32)


def test_entries_over_several_lines_are_read(tmp_path: Path) -> None:
    one, several = tmp_path / "one.txt", tmp_path / "several.txt"
    one.write_text(TEXT)
    rows = TEXT.replace(" 0 700 180", "\n\t0 700 180").replace(" 0 0 1 0.003", "\n  0 0 1 0.003")
    several.write_bytes(b"\xef\xbb\xbf" + rows.replace("\n", "\r\n").encode())
    expected, camera = (kitti_camera(path, WIDTH, HEIGHT) for path in (one, several))
    np.testing.assert_array_equal(camera.projection, expected.projection)
    np.testing.assert_array_equal(camera.lidar_from_camera, expected.lidar_from_camera)


def test_odometry_has_the_velodyne_in_tr(tmp_path: Path) -> None:
    path = tmp_path / "calib.txt"
    projection, _, transform = TEXT.replace("Tr_velo_to_cam", "Tr").splitlines()
    path.write_text(f"{projection}\n{transform}\n")
    on_axis = kitti_camera(path, WIDTH, HEIGHT).camera_from_lidar @ [10, 0, 0, 1]
    np.testing.assert_allclose(on_axis, [0, -0.08, 9.73, 1])


def test_what_a_file_has_is_said_where_an_entry_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "calib.txt"
    path.write_text("P2: 1\nTr_imu_to_velo: 1\n")
    with pytest.raises(CalibrationError, match="P2 has 1 numbers, 12 are needed"):
        kitti_camera(path, WIDTH, HEIGHT)
    path.write_text(TEXT.replace("R0_rect", "R0_rekt"))
    with pytest.raises(CalibrationError, match="no line R0_rect, only P2, R0_rekt, Tr_velo_to_cam"):
        kitti_camera(path, WIDTH, HEIGHT)


def test_a_file_that_is_no_calibration_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "calib.txt"
    with path.open("wb") as file:
        file.truncate(2_000_000)
    with pytest.raises(CalibrationError, match="larger than 1 MB"):
        kitti_camera(path, WIDTH, HEIGHT)
