"""Which labels an evaluator gets to see, and what it is told of the others."""

from pathlib import Path

import numpy as np
from PIL import Image

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.evaluation.kitti_files import read_frames
from kd3d_core.evaluation.notes import ap_notes
from kd3d_core.evaluation.objects import Objects, share_in_dont_care

CAR = "Car 0 0 0 0 0 0 0 1.5 1.6 4 {x} 1.6 15 0.3"
FOUND = "Car -1 -1 -10 {box} 1.5 1.6 4 {x} 1.6 15 0.3 0.9"
CALIB = """P2: 700 0 600 0 0 700 180 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0
"""


def write(root: Path, labels: str, name: str = "000000") -> tuple[Path, Path]:
    """A data set of one frame, whose detections are right; gives both folders."""
    for part in ("label_2", "detections", "image_2", "calib"):
        (root / part).mkdir(exist_ok=True)
    (root / "label_2" / f"{name}.txt").write_text(labels)
    found = [FOUND.format(x=x, box=f"{560 + 60 * x} 150 {650 + 60 * x} 260") for x in (-2, 2)]
    (root / "detections" / f"{name}.txt").write_text("\n".join(found))
    Image.new("RGB", (1242, 375)).save(root / "image_2" / f"{name}.png")
    (root / "calib" / f"{name}.txt").write_text(CALIB)
    return root / "label_2", root / "detections"


def test_labels_without_2d_boxes_count_if_the_camera_is_known(tmp_path: Path) -> None:
    labels, detections = write(tmp_path, "\n".join(CAR.format(x=x) for x in (-2, 2)))
    frames = read_frames(labels, detections)
    assert all(label.has_image_box for label in frames.ground_truth[0])
    result = evaluate(frames.ground_truth, frames.detections)
    assert result.objects["car"] == (2, 2, 2)
    assert frames.ground_truth == [KittiDataset(tmp_path)[0].ground_truth()]
    elsewhere = tmp_path / "elsewhere"
    labels.rename(elsewhere)
    bare = read_frames(elsewhere, detections)
    assert not any(label.has_image_box for label in bare.ground_truth[0])


def test_labels_without_a_3d_box_are_counted_and_none_is_wrong_to_find(tmp_path: Path) -> None:
    flat = "car 0 0 0 680 150 770 260 0 0 0 0 0 0 0"
    bus = CAR.format(x=30).replace("Car", "bus")
    labels, detections = write(tmp_path, f"{CAR.format(x=-2)}\n{flat}\n{bus}\n")
    frames = read_frames(labels, detections)
    assert frames.unusable == {"without a 3D box": 1, "of class 'bus'": 1}
    assert [label.type for label in frames.ground_truth[0]] == ["Car", "DontCare", "bus"]
    result = evaluate(frames.ground_truth, frames.detections)
    assert result.objects["car"] == (1, 1, 1)
    columns = [Objects.from_frames(part) for part in (frames.ground_truth, frames.detections)]
    np.testing.assert_allclose(share_in_dont_care(*columns)["bbox"], [0, 1], atol=0.02)


def test_notes_of_macos_are_no_files(tmp_path: Path) -> None:
    labels, detections = write(tmp_path, CAR.format(x=2))
    for folder in (labels, detections):
        (folder / "._000000.txt").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    frames = read_frames(labels, detections)
    assert (frames.names, frames.left_out) == (("000000",), ())


def test_what_is_ignored_is_noted(tmp_path: Path) -> None:
    flat = "Car 0 0 0 680 150 770 260 0 0 0 0 0 0 0"
    frames = read_frames(*write(tmp_path, f"{CAR.format(x=-2)}\n{flat}\n"))
    notes = ap_notes(frames, evaluate(frames.ground_truth, frames.detections), tmp_path, True)
    assert "labels that no class counts: 1 without a 3D box" in notes
