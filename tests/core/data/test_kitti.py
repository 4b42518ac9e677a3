from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from kd3d_core.data.kitti import PARTS, KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.errors import DataError

CAR = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
CALIB = """P2: 700 0 600 45 0 700 180 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""

numbers = st.floats(-1e4, 1e4, allow_nan=False)


def test_tracking_integers_and_dont_care(tracking: KittiDataset) -> None:
    frame = tracking[0]
    labels = frame.labels()
    assert {label.truncated for label in labels} <= {-1, 0, 1, 2}
    assert any(not label.is_object for label in labels)
    objects = frame.objects()
    assert len(objects) < len(labels)
    assert {label.type for label in objects} <= {"Car", "Van"}
    pose = frame.camera().lidar_from_camera
    assert label_boxes(objects, pose).shape == (len(objects), 7)
    assert label_boxes([], pose).shape == (0, 7)


def write_frame(root: Path, name: str, parts: set[str]) -> None:
    for part in parts:
        (root / part).mkdir(parents=True, exist_ok=True)
        path = root / part / (name + PARTS[part][0])
        if part == "image_2":
            Image.new("RGB", (64, 32), (10, 20, 30)).save(path)
        elif part.startswith("velodyne"):
            np.linspace(0, 0.9, 40, dtype=np.float32).tofile(path)
        else:
            path.write_text(CALIB if part == "calib" else CAR)


def test_dataset_is_found_from_either_folder(tracking: KittiDataset) -> None:
    assert len(tracking) == 31
    assert tracking.root.name == "training"
    assert KittiDataset(tracking.root).names == tracking.names
    assert KittiDataset(str(tracking.root.parent)).names == tracking.names


def test_missing_parts_are_allowed_and_named(tmp_path: Path) -> None:
    write_frame(tmp_path, "000001", {"image_2", "calib"})
    write_frame(tmp_path, "000002", {"image_2", "calib", "velodyne_reduced", "label_2"})
    dataset = KittiDataset(tmp_path)
    assert dataset.names == ("000001", "000002")
    assert {part: dataset.names_with(part) for part in PARTS} == {
        "image_2": ["000001", "000002"],
        "velodyne": [],
        "velodyne_reduced": ["000002"],
        "calib": ["000001", "000002"],
        "label_2": ["000002"],
    }
    assert dataset.has("label_2")
    assert not dataset.has("velodyne")
    assert dataset[1].points().shape == (10, 4)
    with pytest.raises(DataError, match=r"frame 000001 has no label_2: .*000001\.txt is missing"):
        dataset[0].labels()
    with pytest.raises(
        DataError, match=r"velodyne is missing for 2 of 2 .*label_2 is missing for 1"
    ):
        dataset.require(("image_2", "velodyne", "label_2"))
    dataset.subset(["000002"]).require(("label_2",))


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        KittiDataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no KITTI data set"):
        KittiDataset(tmp_path)
    (tmp_path / "image_2").mkdir()
    with pytest.raises(DataError, match="no frame"):
        KittiDataset(tmp_path)
    write_frame(tmp_path, "000001", {"image_2"})
    with pytest.raises(DataError, match="000009"):
        KittiDataset(tmp_path, ["000001", "000009"])
    with pytest.raises(DataError, match="000009"):
        KittiDataset(tmp_path).frame("000009")


def test_meta_of_extracts(tmp_path: Path) -> None:
    write_frame(tmp_path / "training", "000001", {"image_2"})
    assert KittiDataset(tmp_path).meta == {}
    (tmp_path / "meta.json").write_text('{"source": "a bag"}')
    assert KittiDataset(tmp_path).meta == {"source": "a bag"}
    (tmp_path / "meta.json").write_text('{"source"')
    with pytest.raises(DataError, match=r"meta\.json"):
        _ = KittiDataset(tmp_path).meta


def test_points_in_view_are_those_of_kittis_own_reduction(tracking: KittiDataset) -> None:
    frame = tracking[0]
    reduced = frame.points_in_view()
    without = replace(frame, files={k: v for k, v in frame.files.items() if "reduced" not in k})
    ours = without.points_in_view()
    same = set(map(bytes, reduced)) & set(map(bytes, ours))
    assert len(same) > 0.99 * max(len(reduced), len(ours))


def test_calibration_needs_the_image_only_for_its_size(tmp_path: Path) -> None:
    write_frame(tmp_path, "000001", {"velodyne", "calib"})
    frame = KittiDataset(tmp_path)[0]
    assert frame.camera(size=(375, 1242)).width == 1242
    with pytest.raises(DataError, match="image_2"):
        frame.camera()
