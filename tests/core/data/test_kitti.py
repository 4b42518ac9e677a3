from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kd3d_core.data.kitti import PARTS, KittiDataset
from kd3d_core.data.labels import Label, label_boxes, read_labels, write_labels
from kd3d_core.data.point_files import read_points
from kd3d_core.data.splits import read_split
from kd3d_core.errors import DataError
from kd3d_core.messages.pictures import read_picture

CAR = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
CALIB = """P2: 700 0 600 45 0 700 180 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""

numbers = st.floats(-1e4, 1e4, allow_nan=False)


@given(
    st.builds(
        Label,
        st.sampled_from(["Car", "Pedestrian", "DontCare"]),
        st.floats(0, 1),
        st.integers(-1, 3),
        numbers,
        st.tuples(numbers, numbers, numbers, numbers),
        st.tuples(numbers, numbers, numbers),
        st.tuples(numbers, numbers, numbers),
        numbers,
        st.none() | st.floats(0, 1),
    )
)
def test_a_label_survives_being_written(label: Label) -> None:
    again = Label.parse(str(label), "here")
    assert (again.type, again.occluded) == (label.type, label.occluded)
    assert (again.score is None) == (label.score is None)

    def values(of: Label) -> list[float]:
        return [of.truncated, of.alpha, *of.bbox, *of.dimensions, *of.location, of.rotation_y]

    np.testing.assert_allclose(values(again), values(label), atol=1e-6)
    np.testing.assert_allclose(again.score or 0, label.score or 0, atol=1e-6)


def test_real_label_files_are_written_as_they_were(tracking: KittiDataset, tmp_path: Path) -> None:
    for frame in tracking:
        original = frame.path("label_2")
        write_labels(tmp_path / "labels.txt", read_labels(original))
        assert (tmp_path / "labels.txt").read_text().splitlines() == (
            original.read_text().splitlines()
        )


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (CAR.replace("387.63", "left"), "left"),
        (CAR.replace("0.00 0", "0.00 0.5"), "occluded"),
        (CAR.replace("1.57", "nan"), "rotation_y"),
        (CAR.replace("58.49", "inf"), "z"),
        (CAR + " high", "score"),
        (CAR.rsplit(" ", 1)[0], "14"),
        (CAR + " 0.5 7", "17"),
    ],
)
def test_errors_name_file_line_and_field(tmp_path: Path, line: str, field: str) -> None:
    path = tmp_path / "000001.txt"
    path.write_text(f"{CAR}\n\n{line}\n")
    with pytest.raises(DataError) as error:
        read_labels(path)
    assert f"{path}:3: " in str(error.value)
    assert field in str(error.value).removeprefix(str(path))
    assert "\n" not in str(error.value)


def test_empty_labels_and_missing_or_binary_files(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert read_labels(tmp_path / "empty.txt") == []
    with pytest.raises(DataError, match="absent"):
        read_labels(tmp_path / "absent.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="binary"):
        read_labels(tmp_path / "binary.txt")


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
    assert dataset.missing(PARTS) == {
        "velodyne": ["000001", "000002"],
        "velodyne_reduced": ["000001"],
        "label_2": ["000001"],
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


def test_split_lists(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("000003\n000001\n")
    assert read_split(path) == ["000003", "000001"]
    path.write_text("000003\n000001\n000003\n")
    with pytest.raises(DataError, match="000003 is listed twice"):
        read_split(path)


def test_meta_of_extracts(tmp_path: Path) -> None:
    write_frame(tmp_path / "training", "000001", {"image_2"})
    assert KittiDataset(tmp_path).meta == {}
    (tmp_path / "meta.json").write_text('{"source": "a bag"}')
    assert KittiDataset(tmp_path).meta == {"source": "a bag"}
    (tmp_path / "meta.json").write_text('{"source"')
    with pytest.raises(DataError, match=r"meta\.json"):
        _ = KittiDataset(tmp_path).meta


def test_images_are_rgb_and_broken_ones_are_named(tmp_path: Path) -> None:
    Image.new("L", (6, 4), 7).save(tmp_path / "grey.png")
    image = read_picture(tmp_path / "grey.png")
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    Image.new("RGB", (6, 4), (1, 2, 3)).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "colour.png")[0, 0], (1, 2, 3))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:5000])
    for name in ("cut.png", "absent.png"):
        with pytest.raises(DataError, match=name):
            read_picture(tmp_path / name)


def test_points_that_are_cut_off_or_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "000000.bin"
    path.write_bytes(b"\0" * 30)
    with pytest.raises(DataError, match="30 bytes"):
        read_points(path)
    points = np.ones((5, 4), np.float32)
    points[2, 1] = np.nan
    points.tofile(path)
    with pytest.raises(DataError, match="1 of 5 points"):
        read_points(path)
    path.write_bytes(b"")
    assert read_points(path).shape == (0, 4)


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
    assert frame.camera(size=(32, 64)).width == 64
    with pytest.raises(DataError, match="image_2"):
        frame.camera()
