"""Labels: read however people write them, and one rule for what can be used."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import box_labels, label_boxes, with_image_boxes
from kd3d_core.data.labels import (
    Label,
    describe_unusable,
    read_labels,
    unusable,
    usable,
    write_labels,
)
from kd3d_core.errors import DataError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera

CAR = "Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57"
DONT_CARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"

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


@pytest.mark.parametrize(
    "data",
    [
        f"{CAR}\n{DONT_CARE}\n".encode(),
        b"\xef\xbb\xbf" + f"{CAR}\n{DONT_CARE}\n".encode(),
        b"\xef\xbb\xbf" + f"{CAR}\r\n{DONT_CARE}\r\n\r\n".encode(),
        f"{CAR}\r\n{DONT_CARE}".encode("utf-16"),
        f"  {CAR}\r{DONT_CARE} ".replace(" ", "\t").encode(),
        f"{CAR.lower()}\n{DONT_CARE.lower()}\n".encode(),
        f"{CAR.upper()}\n{DONT_CARE.upper()}\n".encode(),
    ],
)
def test_byte_order_marks_line_ends_and_case_make_no_difference(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    car, region = read_labels(path)
    assert (car, region) == (Label.parse(CAR, ""), Label.parse(DONT_CARE, ""))
    assert (car.type, region.type) == ("Car", "DontCare")
    assert (car.is_usable, region.is_object) == (True, False)


def test_tracking_labels_are_named_as_such() -> None:
    for line in (f"0 12 {CAR}", f"0 -1 {DONT_CARE}", f"7 3 {CAR} 0.9"):
        with pytest.raises(DataError, match=r"x:1: .*tracking set.* frame and track id"):
            Label.parse(line, "x:1")


def changed(**fields: object) -> Label:
    return replace(Label.parse(CAR, ""), **fields)


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (changed(dimensions=(0.0, 0.0, 0.0), location=(0.0, 0.0, 0.0)), "without a 3D box"),
        (changed(dimensions=(-1.0, -1.0, -1.0), location=(-1000.0,) * 3), "without a 3D box"),
        (changed(dimensions=(1.5, -1.0, 4.0)), "with a size"),
        (changed(dimensions=(1.5, 0.0, 4.0)), "with a size"),
        (changed(dimensions=(1e5, 1.6, 4.0)), "with a size"),
        (changed(dimensions=(150.0, 160.0, 400.0)), "with a size"),  # centimetres
        (changed(location=(-1000.0, -1000.0, -1000.0)), "in the camera itself or"),
        (changed(location=(0.0, 0.0, 0.0)), "in the camera itself or"),
        (changed(location=(1.0, 1.5, 1e38)), "in the camera itself or"),
        (changed(rotation_y=1e5), "with a rotation_y"),
        (changed(rotation_y=90.0), "with a rotation_y"),  # degrees
        (changed(truncated=1e5), "with nonsense"),
        (changed(occluded=int(1e308)), "with nonsense"),
    ],
)
def test_what_cannot_be_learnt_is_left_out_and_counted(label: Label, reason: str) -> None:
    car, region = Label.parse(CAR, ""), Label.parse(DONT_CARE, "")
    assert usable([car, label, region]) == [car]
    (found,) = unusable([car, label, region])
    assert found.startswith(reason)


def test_what_is_odd_but_right_is_kept() -> None:
    for label in (
        changed(rotation_y=6.28),
        changed(truncated=-1.0, occluded=-1, alpha=-10.0),
        changed(dimensions=(3.5, 2.6, 40.0)),  # a tram
        changed(bbox=(0.0, 0.0, 0.0, 0.0)),
        changed(location=(-3.0, 1.6, -0.5)),  # beside the camera
    ):
        assert usable([label]) == [label]


def test_unknown_classes_are_named() -> None:
    labels = [changed(type=name) for name in ("Car", "Van", "bus", "bus", "robot" * 20)]
    reasons = unusable([*labels, changed(dimensions=(0.0, 0.0, 0.0)), Label.parse(DONT_CARE, "")])
    assert reasons == Counter(
        {"of class 'bus'": 2, f"of class {('robot' * 8)!r}": 1, "without a 3D box": 1}
    )
    assert describe_unusable(reasons).startswith("2 of class 'bus', 1 ")
    assert unusable(labels, classes=("car", "BUS"))["of class 'Van'"] == 1
    assert describe_unusable(unusable([])) == ""


def small_camera() -> PinholeCamera:
    projection = np.array([[300.0, 0, 160, 0], [0, 300, 60, 0], [0, 0, 1, 0]])
    return PinholeCamera(projection, 320, 120, virtual_lidar_from_camera(1.5))


def test_image_boxes_come_from_3d_boxes_where_there_are_none() -> None:
    camera = small_camera()
    boxes = np.array([[12, 1, -1.7, 4, 1.6, 1.5, 0.3], [25, -5, -1.7, 4, 1.6, 1.5, -2]])
    known = box_labels(boxes, [0.9, 0.8], ["Car", "Car"], camera)
    assert all(label.has_image_box for label in known)
    unknown = [replace(label, bbox=(0.0, 0.0, 0.0, 0.0), alpha=0.0) for label in known]
    inverted = replace(known[0], bbox=(200.0, 80.0, 100.0, 20.0), alpha=-10.0)
    for label, right in zip([*unknown, inverted], [*known, known[0]], strict=True):
        (filled,) = with_image_boxes([label], camera)
        np.testing.assert_allclose(filled.bbox, right.bbox, atol=1e-3)
        np.testing.assert_allclose(filled.alpha, right.alpha, atol=1e-5)
        assert replace(filled, bbox=right.bbox, alpha=right.alpha) == right


def test_labels_without_need_or_hope_of_an_image_box_stay() -> None:
    camera = small_camera()
    (seen,) = box_labels(np.array([[12, 1, -1.7, 4, 1.6, 1.5, 0.3]]), [0.9], ["Car"], camera)
    drawn = replace(seen, bbox=(1.0, 2.0, 30.0, 40.0))
    behind = replace(seen, location=(0.0, 1.6, -20.0), bbox=(0.0, 0.0, 0.0, 0.0))
    flat = replace(seen, dimensions=(0.0, 0.0, 0.0), bbox=(0.0, 0.0, 0.0, 0.0))
    region = replace(Label.parse(DONT_CARE, ""), bbox=(0.0, 0.0, 0.0, 0.0))
    labels = [drawn, behind, flat, region]
    assert with_image_boxes(labels, camera) == labels


def test_the_boxes_of_real_labels_are_about_those_drawn_by_hand(kitti_object: KittiDataset) -> None:
    overlaps = []
    for frame in kitti_object:
        objects = [label for label in frame.objects() if label.truncated < 0.1]
        bare = [replace(label, bbox=(0.0, 0.0, 0.0, 0.0)) for label in objects]
        for label, filled in zip(objects, with_image_boxes(bare, frame.camera()), strict=True):
            one, other = np.array(label.bbox), np.array(filled.bbox)
            sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
            inside = np.maximum(sides, 0).prod()
            union = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - inside
            overlaps.append(inside / union)
    assert len(overlaps) > 10
    assert np.median(overlaps) > 0.8


def test_labels_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    with pytest.raises(ZeroDivisionError):
        write_labels(path, (label for label in [changed(), 1 / 0]))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        write_labels(tmp_path / "file" / "labels.txt", [changed()])


def test_boxes_of_no_labels() -> None:
    assert label_boxes([], np.eye(4)[[2, 0, 1, 3]]).shape == (0, 7)


def test_files_and_class_names_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/zero: cannot be read: it is larger than 4 MB"):
        read_labels("/dev/zero")
    path = tmp_path / "000000.txt"
    path.write_text(CAR.replace("Car", "C" * 1_000_000))
    with pytest.raises(DataError, match=r"0\.txt:1: field 'type' has 1000000 characters") as caught:
        read_labels(path)
    assert len(str(caught.value)) < 300
