"""`kd3d-bag`, what of it needs no ROS."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sample_messages import IMAGE, write_bag

from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.messages.encode import encode
from kd3d_core.messages.types import Transforms
from kd3d_ros import bag


def run(*words: object) -> int:
    """The command in this process."""
    arguments = sys.argv
    sys.argv = ["kd3d-bag", *map(str, words)]
    try:
        return bag.main()
    finally:
        sys.argv = arguments


def test_from_kitti_writes_the_frames_asked_for(
    tracking: KittiDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bag"
    root = tracking.root.parent
    assert run("from-kitti", root, "--out", out, "--frames", "1:3", "--rate", 5) == 0
    assert "2 frames" in capsys.readouterr().out
    with BagReader(out) as reader:
        first = reader.decode(next(reader.messages(["/camera/image_raw"])))
        assert reader.duration_s == pytest.approx(0.2)
    np.testing.assert_array_equal(first.rgb(), tracking[1].image())
    assert run("from-kitti", root, "--out", out, "--frames", ":1") == 1
    assert "exists already" in capsys.readouterr().err
    assert run("from-kitti", root, "--out", out, "--frames", ":1", "--overwrite") == 0
    assert run("info", out) == 0
    assert "/velodyne_points" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rate", 0), "--rate 0"),
        (("--rate", 1e-300), "--rate 1e-300"),
        (("--frames", "5"), "a:b"),
        (("--frames", "90:"), "selects none"),
    ],
)
def test_bad_arguments_are_one_line(
    tracking: KittiDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
    message: str,
) -> None:
    assert run("from-kitti", tracking.root, "--out", tmp_path / "bag", *words) == 1
    error = capsys.readouterr().err
    assert error.startswith("kd3d-bag: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_frame_leaves_no_bag(
    tracking: KittiDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    for part in ("image_2", "calib"):
        (root / part).mkdir(parents=True)
        for name in ("000000", "000001"):
            source = tracking.frame(name).path(part)
            (root / part / source.name).write_bytes(source.read_bytes())
    image = root / "image_2" / "000001.png"
    image.write_bytes(image.read_bytes()[:10_000])
    assert run("from-kitti", root, "--out", tmp_path / "out" / "bag") == 1
    assert str(image) in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_info_says_what_a_foreign_bag_lacks(
    foreign_bags: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("info", foreign_bags[0]) == 0
    out = capsys.readouterr().out
    for missing in ("CameraInfo", "PointCloud2", "tf_static"):
        assert any("missing" in line and missing in line for line in out.splitlines())
    assert "missing: images" not in out


def test_info_names_what_is_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/tf", Transforms.ros_type)
        writer.add_topic("/" + "a" * 9999, Transforms.ros_type)
        for stamp in (1, 10**18):
            writer.write("/tf", stamp, Transforms(()))
    assert run("info", tmp_path / "bag") == 0
    out = capsys.readouterr().out
    assert "odd: from the first to the last stamp it is 31.7 years" in out
    assert "missing: extrinsics (/tf_static): where camera and LiDAR sit; what /tf says of" in out
    assert max(map(len, out.splitlines())) < 250


def test_from_kitti_finds_out_what_a_folder_holds(
    tracking: KittiDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sequences are unpacked elsewhere than the object layout; their files are the same."""
    root = tmp_path / "training"
    for part, folder in (("image_2", "image_02/0001"), ("velodyne", "velodyne/0001")):
        (root / folder).parent.mkdir(parents=True)
        (root / folder).symlink_to(tracking.root / part)
    (root / "calib").mkdir()
    (root / "calib" / "0001.txt").write_bytes(tracking[0].path("calib").read_bytes())
    out = tmp_path / "bag"
    assert run("from-kitti", tmp_path, "--out", out, "--frames", "9:12") == 0
    assert "3 frames, at an assumed 10 Hz, having no time stamps: " in capsys.readouterr().out
    with BagReader(out) as reader:
        assert reader.topics["/velodyne_points"].count == 1
        image = reader.decode(next(reader.messages(["/camera/image_raw"])))
    np.testing.assert_array_equal(image.rgb(), tracking[9].image())
    for words, said in (
        (("--sequence", "7"), "give --sequence, one of 0001"),
        (("--cameras", "[1]"), "give 2, 3 or both"),
        (("--frames", "99:"), "selects none of the 31 frames"),
    ):
        assert run("from-kitti", tmp_path, "--out", tmp_path / "no", *words) == 1
        assert said in capsys.readouterr().err
    assert run("from-kitti", tracking.root, "--out", tmp_path / "no", "--sequence", "0001") == 1
    assert "--sequence is for KITTI's tracking set" in capsys.readouterr().err


def test_info_says_what_a_damaged_recording_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = write_bag(tmp_path / "bag").glob("*.mcap")
    data = file.read_bytes()
    cut = data.rindex(b"rgb8") + 20
    file.write_bytes(data[:cut])
    assert run("info", file) == 0
    out = capsys.readouterr().out
    assert f"{file}: 5 messages in" in out
    assert "points: /points: intensity to 1, no times of points" in out
    assert f"damaged: {file}: it is read only up to byte 43 of {cut}: a chunk is cut off" in out
    broken = bytearray(data)
    last = data.rindex(struct.pack("<Q", 22 + len(encode(IMAGE)))) - 1
    broken[last] = 99  # there is no such record
    file.write_bytes(broken)
    assert run("info", file, "--check") == 0
    out = capsys.readouterr().out
    assert "1 of 2" in out
    assert "there is no record of kind 99, behind its first 5 messages" in out


def test_output_that_nobody_reads_is_no_traceback(foreign_bags: list[Path]) -> None:
    words = f"exec {sys.executable} -m kd3d_ros.bag info '{foreign_bags[0]}'"
    done = subprocess.run(
        ["sh", "-c", f"({words}) | true"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_help_needs_neither_torch_nor_ros() -> None:
    code = (
        "import sys, kd3d_ros.bag, kd3d_core.cli.weights, kd3d_core.data.bag;"
        "print([name for name in ('torch', 'rclpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
