"""Frames from image files, with labels and images as people really have them."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import write_kitti_bag
from kd3d_core.data.kitti_writer import KittiWriter, calib_of_camera
from kd3d_core.errors import DataError
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.offline.image_files import HandCalibration, image_source, images_in, kitti_source

CAR = "Car 0 0 0 0 0 0 0 1.5 1.6 4 1 1.6 15 0.3"
FLAT = "Car 0 0 0 20 10 40 20 0 0 0 0 0 0 0"
INTRINSICS = HandCalibration(intrinsics=(72.0, 73.0, 62.5, 21.5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three frames of 126 x 44 pixels with a car in each."""
    projection = np.array([[72.0, 0, 62.5, 0], [0, 73, 21.5, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, 126, 44, virtual_lidar_from_camera(1.5))
    writer = KittiWriter(tmp_path / "data")
    points = np.random.default_rng(0).uniform(0.1, 0.9, (20, 4))
    labels = tmp_path / "data" / "training" / "label_2"
    labels.mkdir(parents=True)
    for index in range(3):
        image = np.full((44, 126, 3), 40 * index, np.uint8)
        writer.write(f"{index:06d}", image, calib_of_camera(camera), points)
        (labels / f"{index:06d}.txt").write_text(f"{CAR}\n")
    return tmp_path / "data"


def label_file(folder: Path, index: int) -> Path:
    return folder / "training" / "label_2" / f"{index:06d}.txt"


def loaded(folder: Path) -> list[Frame]:
    return [ref.load() for ref in kitti_source(folder, slice(None), 10.0).references]


def test_labels_that_cannot_be_read_are_said_once_and_do_not_stop_detection(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in (0, 2):
        label_file(folder, index).write_text(f"0 12 {CAR}\n")
    with caplog.at_level(logging.WARNING):
        frames = loaded(folder)
    assert [frame.truth is None for frame in frames] == [True, False, True]
    (message,) = caplog.messages
    assert "shown without their labels" in message
    assert f"{label_file(folder, 0)}:1: a label of KITTI's tracking set" in message


def test_labels_without_a_box_are_not_shown(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    label_file(folder, 1).write_text(f"{FLAT}\n{CAR.lower()}\ndontcare{FLAT[3:]}\n{FLAT}\n")
    with caplog.at_level(logging.WARNING):
        truth = loaded(folder)[1].truth
    assert truth is not None
    assert truth.names == ("Car",)
    np.testing.assert_allclose(truth.boxes[0, 3:6], (4, 1.6, 1.5))
    (message,) = caplog.messages
    assert message.endswith("frame 000001: 2 without a 3D box")


def test_no_box_without_size_gets_into_a_bag(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from kd3d_core.data.bag import BagReader

    label_file(folder, 1).write_text(f"{FLAT}\ndontcare{FLAT[3:]}\nCAR{CAR[3:]}\n")
    write_kitti_bag(KittiDataset(folder), tmp_path / "bag")
    assert caplog.messages == [f"{folder / 'training'}: labels left out: 1 without a 3D box"]
    with BagReader(tmp_path / "bag") as reader:
        boxes = [reader.decode(raw).boxes for raw in reader.messages(["/ground_truth"])]
    assert [len(part) for part in boxes] == [1, 1, 1]
    assert (np.concatenate(boxes)[:, 3:6] > 1).all()


def test_notes_of_macos_are_no_frames(folder: Path) -> None:
    for path in list(folder.rglob("0*.*")):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    assert KittiDataset(folder).names == ("000000", "000001", "000002")
    assert len(loaded(folder)) == 3
    images = images_in(folder / "training" / "image_2")
    assert [path.name for path in images] == ["000000.png", "000001.png", "000002.png"]


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    eps, turned = tmp_path / "a.png", tmp_path / "b.jpg"
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(DataError, match=r"none of the 1 images .*a\.png.* but EPS"):
        image_source([eps], INTRINSICS, slice(None), 10.0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (44, 126)).save(turned, exif=exif)
    source = image_source([eps, turned], INTRINSICS, slice(None), 10.0)
    (bad, good) = source.references
    with pytest.raises(DataError, match="EPS"):
        bad.load()
    frame = good.load()
    assert frame.image.shape == (44, 126, 3)
    assert (frame.camera.width, frame.camera.height) == (126, 44)
