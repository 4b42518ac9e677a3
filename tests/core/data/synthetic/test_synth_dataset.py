"""Data sets on disk: same seed same bytes, resumed, readable; and bags of them."""

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.cli import synth as command
from kd3d_core.data.bag import BagReader
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_writer import KittiWriter
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.synthetic import dataset
from kd3d_core.data.synthetic.dataset import SynthConfig, write_dataset
from kd3d_core.data.synthetic.lidar import LidarConfig
from kd3d_core.data.synthetic.render import render
from kd3d_core.data.synthetic.rig import CameraConfig, RigVariation
from kd3d_core.errors import ConfigError, DataError, Kd3dError
from kd3d_core.geometry.camera_info import camera_from_info

_CAMERA = CameraConfig(width=320, height=120, fx=190, fy=185, cx=160, cy=55, mount_height=1.4)
_SMALL = SynthConfig(2, 5, camera=_CAMERA, lidar=LidarConfig(azimuth_step=0.5))


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "data"
    assert write_dataset(_SMALL, out) == 0
    return out


def test_a_data_set_is_read_as_kitti_is(rendered: Path) -> None:
    dataset = KittiDataset(rendered)
    assert dataset.names == ("000000", "000001")
    dataset.require(("image_2", "velodyne", "calib", "label_2"))
    assert dataset.meta["source"] == "kd3d-synth"
    assert dataset.meta["seed"] == 5
    for frame in dataset:
        assert frame.image().shape == (120, 320, 3)
        camera = frame.camera()
        np.testing.assert_allclose(
            camera.projection[:, :3], [[190, 0, 160], [0, 185, 55], [0, 0, 1]], atol=1e-9
        )
        points = frame.points_in_view()
        assert len(points) > 1000
        boxes = label_boxes(frame.objects(), camera.lidar_from_camera)
        assert len(boxes) > 0
        # They stand on the road, or on the pavement 12 cm above it.
        np.testing.assert_allclose(boxes[:, 2], -1.67, atol=0.07)


def test_the_same_seed_makes_the_same_bytes_with_any_number_of_workers(
    rendered: Path, tmp_path: Path
) -> None:
    write_dataset(_SMALL, tmp_path, workers=2)
    assert _digests(tmp_path) == _digests(rendered)
    ours = _digests(rendered)
    assert ours["training/image_2/000000.png"] != ours["training/image_2/000001.png"]


def test_another_seed_makes_other_bytes(rendered: Path, tmp_path: Path) -> None:
    write_dataset(replace(_SMALL, frames=1, seed=6), tmp_path)
    theirs, ours = _digests(tmp_path), _digests(rendered)
    for part in ("image_2/000000.png", "velodyne/000000.bin", "label_2/000000.txt"):
        assert theirs[f"training/{part}"] != ours[f"training/{part}"]


def test_an_interrupted_run_goes_on(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(rendered, out)
    image = out / "training" / "image_2" / "000001.png"
    image.unlink()
    image.with_name("000001.png.99.part").write_bytes(b"half of an image")
    kept = out / "training" / "velodyne" / "000000.bin"
    before = kept.stat().st_mtime_ns
    seen: list[int] = []
    assert write_dataset(_SMALL, out, on_frame=lambda: seen.append(1)) == 1
    assert len(seen) == 2
    assert kept.stat().st_mtime_ns == before
    image.with_name("000001.png.99.part").unlink()
    assert _digests(out) == _digests(rendered)


def test_a_killed_worker_is_one_line_and_the_same_command_goes_on(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_write_frame", _write_frame_but_die_at_the_second)
        with pytest.raises(Kd3dError, match=r"was killed.* the same command goes on") as caught:
            write_dataset(_SMALL, tmp_path, workers=2)
    assert "\n" not in str(caught.value)
    write_dataset(_SMALL, tmp_path)
    assert _digests(tmp_path) == _digests(rendered)


def _write_frame_but_die_at_the_second(config: SynthConfig, writer: KittiWriter, name: str) -> None:
    """What workers are given, so it is found by its name in their own copy of this module."""
    if name == "000001":
        os.kill(os.getpid(), signal.SIGKILL)
    dataset._write_frame(config, writer, name)


def test_more_frames_are_added_to_what_is_there(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(rendered, out)
    assert write_dataset(replace(_SMALL, frames=3), out) == 2
    assert KittiDataset(out).names == ("000000", "000001", "000002")
    before, after = _digests(rendered), _digests(out)
    assert {name: after[name] for name in before if name != "meta.json"} == {
        name: digest for name, digest in before.items() if name != "meta.json"
    }


def test_only_the_wanted_frames_are_rendered(rendered: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    assert write_dataset(_SMALL, tmp_path, on_frame=lambda: seen.append(1), only=[1]) == 0
    assert len(seen) == 1
    assert KittiDataset(tmp_path).names == ("000001",)
    assert _digests(tmp_path).items() <= _digests(rendered).items()
    assert write_dataset(_SMALL, tmp_path, only=[1]) == 1


def test_rendering_tells_what_was_there_already(
    rendered: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(rendered, tmp_path, dirs_exist_ok=True)
    (tmp_path / "training" / "calib" / "000000.txt").unlink()
    with caplog.at_level("INFO"):
        render(_SMALL, tmp_path)
    assert f"{tmp_path}: 1 of 2 frames were there already" in caplog.messages
    assert _digests(tmp_path) == _digests(rendered)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 6}, "seed"),
        ({"sequence": True}, "sequence"),
        ({"camera": CameraConfig()}, "camera"),
    ],
)
def test_other_options_do_not_mix_with_what_is_there(
    rendered: Path, change: dict, named: str
) -> None:
    before = _digests(rendered)
    with pytest.raises(DataError, match=named):
        write_dataset(replace(_SMALL, **change), rendered)
    assert _digests(rendered) == before


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    with pytest.raises(DataError, match="another folder"):
        write_dataset(_SMALL, tmp_path)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        SynthConfig(0)
    with pytest.raises(ConfigError, match="0 or more"):
        SynthConfig(1, seed=-1)


def _run(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr("sys.argv", ["kd3d-synth", *map(str, args)])
    return command.main()


def test_a_sequence_becomes_a_bag_with_a_lens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lens = (-0.25, 0.05, 0.001, 0.0, 0.0)
    size = ("--width", 320, "--height", 120, "--fx", 190, "--workers", 1, "--lidar-step", 1)
    options = ("--frames", 2, "--seed", 4, "--sequence", *size, "--bag", tmp_path / "bag")
    assert _run(monkeypatch, *options, "--distortion", *lens) == 0
    assert "2 frames at 10 Hz" in capsys.readouterr().out
    with BagReader(tmp_path / "bag") as reader:
        messages = [(raw.topic, reader.decode(raw)) for raw in reader.messages()]
    infos = [message for topic, message in messages if topic == "/camera/camera_info"]
    images = [message for topic, message in messages if topic == "/camera/image_raw"]
    truths = [message for topic, message in messages if topic == "/ground_truth"]
    assert [len(infos), len(images), len(truths)] == [2, 2, 2]
    camera = camera_from_info(infos[0], np.eye(4), rectified=False)
    assert camera.distortion is not None
    np.testing.assert_allclose(camera.distortion.coefficients, lens)
    assert images[1].stamp_ns - images[0].stamp_ns == 100_000_000
    assert np.abs(images[0].rgb().astype(int) - images[1].rgb()).mean() > 1
    moves = [message.transforms[0] for topic, message in messages if topic == "/tf"]
    assert [(move.parent, move.child) for move in moves] == [("odom", "velodyne")] * 2
    assert [move.stamp_ns for move in moves] == [image.stamp_ns for image in images]
    went = np.linalg.inv(moves[0].parent_from_child) @ moves[1].parent_from_child
    assert 0.4 < went[0, 3] < 1.2  # 5 to 11 m/s, ahead
    assert _run(monkeypatch, *options) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_the_command_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, "--frames", 2) == 1
    assert "--out" in capsys.readouterr().err
    bent = ("--out", tmp_path / "data", "--distortion", -0.2, 0, 0, 0)
    assert _run(monkeypatch, "--frames", 2, *bent) == 1
    assert "--bag without --out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_scenes_may_have_other_cameras_and_a_drive_has_one(tmp_path: Path) -> None:
    varied = replace(_SMALL, variation=RigVariation(height=0.1, pitch_deg=1.0, roll_deg=1.0))
    first, second = (dataset.frame_rig(varied, index) for index in (0, 1))
    assert first.config != second.config
    assert first.config == dataset.frame_rig(varied, 0).config
    drive = replace(varied, sequence=True)
    assert dataset.frame_rig(drive, 0).config == dataset.frame_rig(drive, 1).config
    write_dataset(varied, tmp_path, only=[0])
    camera = KittiDataset(tmp_path)[0].camera()
    np.testing.assert_allclose(
        camera.image_from_lidar, first.rectified_camera.image_from_lidar, atol=1e-6
    )


def test_meta_is_plain_json(rendered: Path) -> None:
    meta = json.loads((rendered / "meta.json").read_text())
    assert meta["camera"]["mount_height"] == 1.4
    assert meta["lidar"]["field"] == 90.0
    assert meta["rate_hz"] is None
