"""Folders in KITTI's layout, written and read back."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_writer import KittiWriter, calib_of_camera
from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera

CAR = Label.parse("Car 0 0 1.85 38.5 18.5 42.25 20.5 1.67 1.87 3.69 -16.53 2.39 58.49 1.57", "")


def camera() -> PinholeCamera:
    projection = np.array([[70.0, 0, 32.5, 4.5], [0, 71, 16.25, 0.2], [0, 0, 1, 0.003]])
    return PinholeCamera(projection, 64, 32, virtual_lidar_from_camera(1.4))


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (32, 64, 3), np.uint8)


def points() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, (50, 4)).astype(np.float32)


def test_frames_are_read_as_they_were_written(tmp_path: Path) -> None:
    writer = KittiWriter(tmp_path)
    assert not writer.is_whole("000007")
    writer.write("000007", image(), calib_of_camera(camera()), points(), [CAR])
    writer.write_meta({"source": "a test"})
    assert writer.is_whole("000007")
    dataset = KittiDataset(tmp_path)
    assert dataset.meta == {"source": "a test"}
    (frame,) = dataset
    np.testing.assert_array_equal(frame.image(), image())
    np.testing.assert_array_equal(frame.points(), points())
    assert frame.labels() == [CAR]
    assert (frame.camera().width, frame.camera().height) == (64, 32)
    np.testing.assert_allclose(frame.camera().projection, camera().projection, atol=1e-9)
    np.testing.assert_allclose(
        frame.camera().lidar_from_camera, camera().lidar_from_camera, atol=1e-9
    )


def test_folders_may_lack_points_and_labels(tmp_path: Path) -> None:
    writer = KittiWriter(tmp_path)
    files = writer.write("000000", image(), calib_of_camera(camera()))
    assert not writer.is_whole("000000")
    assert KittiDataset(tmp_path)[0].files.keys() == {"image_2", "calib"}
    assert {file.path for file in files} == {
        "training/image_2/000000.png",
        "training/calib/000000.txt",
    }
    for file in files:
        data = (tmp_path / file.path).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_a_frame_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = KittiWriter(tmp_path)
    written = Path.write_bytes

    def full_at_the_image(path: Path, data: bytes) -> int:
        if "label_2" in path.parts:
            raise OSError(28, os.strerror(28))
        return written(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_at_the_image)
        with pytest.raises(DataError, match="No space left"):
            writer.write("000000", image(), calib_of_camera(camera()), points(), [CAR])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_points_are_little_endian_float32(tmp_path: Path) -> None:
    KittiWriter(tmp_path).write(
        "000000", image(), calib_of_camera(camera()), points().astype(np.float64), []
    )
    path = tmp_path / "training" / "velodyne" / "000000.bin"
    np.testing.assert_array_equal(
        np.frombuffer(io.BytesIO(path.read_bytes()).read(), "<f4").reshape(-1, 4), points()
    )
