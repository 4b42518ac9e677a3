"""The command kd3d-extract."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.cli import extract as command
from kd3d_core.data.bag import BagWriter
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import write_kitti_bag
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import CameraInfo, Image

HEAVY = ("torch", "mmdet3d", "transformers", "accelerate", "matplotlib", "ray")
_RUN = """
import json, sys
sys.argv = ["kd3d-extract", *sys.argv[1:]]
from kd3d_core.cli.extract import main
try:
    status = main()
except SystemExit as error:
    status = error.code
print(json.dumps([status, sorted(set(sys.modules) & set(HEAVY))]))
""".replace("HEAVY", repr(HEAVY))


def outcome(*words: str) -> tuple[int, list[str], str]:
    """Exit status, heavy modules that were loaded, and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=True
    )
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    return status, loaded, done.stderr


@pytest.fixture(scope="module")
def images_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag with an image and nothing else."""
    path = tmp_path_factory.mktemp("bags") / "images"
    with BagWriter(path) as writer:
        writer.add_topic("/image", Image.ros_type)
        image = Image.from_rgb(np.zeros((4, 6, 3), np.uint8), 10**18, "camera")
        writer.write("/image", 10**18, image)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["/nowhere.mcap"], "/nowhere.mcap: there is no such bag"),
        (["BAG", "BAG"], "a bag is given twice"),
        (["BAG", "--every", "0"], "--every 0"),
        (["BAG", "--workers", "-1"], "--workers -1"),
        (["BAG", "--extrinsics", "/nowhere.yaml"], "/nowhere.yaml"),
        (["BAG", "--image", "/other"], "no sensor_msgs/Image or .* on /other; there is /image"),
        (["BAG"], "there is no sensor_msgs/CameraInfo in it; it has /image"),
    ],
)
def test_an_error_is_one_line_before_anything_heavy(
    images_only: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    named = [word.replace("BAG", str(images_only)) for word in words]
    status, loaded, text = outcome(*named, "--out", str(tmp_path / "out"))
    assert (status, loaded) == (1, [])
    assert len(text.strip().splitlines()) == 1
    assert re.search(message, text)
    assert not (tmp_path / "out").exists()


def test_a_run_says_what_became_of_each_topic(
    tracking: KittiDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bag, out = tmp_path / "bag", tmp_path / "out"
    write_kitti_bag(tracking.subset(["000000", "000001"]), bag, 10.0)
    monkeypatch.setattr(sys, "argv", ["kd3d-extract", str(bag), "--out", str(out), "--every", "2"])
    assert command.main() == 0
    text = capsys.readouterr().out
    assert f"{bag}: 1 frames" in text
    assert "/velodyne_points: 2 messages, 1 used" in text
    assert "1 skipped: left out by --every" in text
    assert command.main() == 0
    assert "all of it was extracted before" in capsys.readouterr().out


def test_a_recording_without_a_usable_image_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bag, out = tmp_path / "bag", tmp_path / "out"
    projection = np.array([[5.0, 0, 3, 0], [0, 5, 2, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, 6, 4, np.eye(4))
    with BagWriter(bag) as writer:
        writer.add_topic("/image", Image.ros_type)
        writer.add_topic("/camera_info", CameraInfo.ros_type)
        short = Image(10**18, "camera", 4, 6, "rgb8", 18, np.zeros(20, np.uint8))
        writer.write("/image", 10**18, short)
        writer.write("/camera_info", 10**18, CameraInfo.of_camera(camera, 10**18, "camera"))
    monkeypatch.setattr(sys, "argv", ["kd3d-extract", str(bag), "--out", str(out)])
    assert command.main() == 1
    assert "1 rejected: image has 20 bytes" in capsys.readouterr().out
