"""An error of a command comes before anything heavy is loaded."""

import json
import subprocess
import sys

import pytest
import yaml

from kd3d_core.paths import share_dir

HEAVY = ("torch", "mmdet3d", "mmengine", "transformers", "accelerate", "matplotlib")
_RUN = """
import json, sys
sys.argv = sys.argv[1:]
from importlib import import_module
try:
    status = import_module(sys.argv[0]).main()
except SystemExit as error:
    status = error.code
print(json.dumps([status, sorted(set(sys.modules) & set({heavy!r}))]))
"""


def outcome(command: str, *words: str, **environment: str) -> tuple[int, list[str], str]:
    """Exit status, heavy modules that were loaded, and what was said on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN.replace("{heavy!r}", repr(HEAVY)), command, *words],
        capture_output=True, text=True, check=True, timeout=60, env=environment or None,
    )  # fmt: skip
    status, loaded = json.loads(done.stdout.strip().splitlines()[-1])
    return status, loaded, done.stderr


@pytest.fixture
def run(tmp_path):
    """A training configuration with some of its settings replaced, as a file."""

    def write(**changes):
        path = share_dir() / "config" / "train" / "kitti_lite.yaml"
        values = {**yaml.safe_load(path.read_text()), "out": str(tmp_path / "run"), **changes}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
        return str(tmp_path / "run.yaml")

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "epoch"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"model": "nothing"}, "no model is called 'nothing'"),
        ({"model": "mvxnet_kitti"}, "kd3d-weights get"),
        ({"data": {"root": "/nowhere"}}, "/nowhere"),
    ],
)
def test_training(run, tmp_path, monkeypatch, changes, message):
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    status, loaded, text = outcome("kd3d_core.cli.train", run(**changes))
    assert (status, loaded) == (1, [])
    assert message in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.png", "--png", "out"), "nothing.png: there is no such file"),
        ((".", "--png", "out", "--model", "nothing"), "no model is called 'nothing'"),
        ((".", "--png", "out", "--rate", "0"), "--rate 0"),
        ((".", "--kitti", "out", "--model", "mvxnet_kitti"), "kd3d-weights get"),
    ],
)
def test_detection(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    status, loaded, text = outcome("kd3d_core.cli.detect", *words)
    assert (status, loaded) == (1, [])
    assert message in text
    assert len(text.strip().splitlines()) == 1


def test_comparison():
    status, loaded, text = outcome("kd3d_core.cli.compare", "demo", "nothing", "--data", ".")
    assert (status, loaded) == (1, [])
    assert "no model is called 'nothing'" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing", "."), "no model is called 'nothing'"),
        (("demo", "/nowhere"), "/nowhere: there is no such folder"),
        (("lite", "EMPTY"), "no KITTI data set"),
    ],
)
def test_pseudo_labels(tmp_path, words, message):
    words = [str(tmp_path) if word == "EMPTY" else word for word in words]
    status, loaded, text = outcome("kd3d_core.cli.pseudo_label", *words)
    assert (status, loaded) == (1, [])
    assert message in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "nothing"), "no model is called 'nothing'"),
        (("--model", "second_kitti", "--random"), "second_kitti reads a LiDAR"),
        (("--model", "mvxnet_kitti", "--random", "--baseline", "upstream"), "use --model demo"),
        (("--compare", "old.json"), "give --baseline upstream or --against"),
        (("--baseline", "upstream", "--compare", "/nowhere.json"), "/nowhere.json: not a report"),
        (("--rounds", "0"), "--images and --rounds"),
    ],
)
def test_benchmarks(words, message):
    status, loaded, text = outcome("kd3d_core.cli.bench", *words)
    assert (status, loaded) == (1, [])
    assert message in text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("streets", "--out", "."), ". is there already: remove it, or give another folder"),
        (("mvxnet_kitti", "--out", "new"), "kd3d-weights get"),
        (("second_kitti", "--out", "new"), "second_kitti is of type lidar"),
        (("streets", "--out", "new", "--int8", ".", "--keep-fp32", "head"), "--keep-fp32 head"),
    ],
)
def test_exports(tmp_path, monkeypatch, words, message):
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    status, loaded, text = outcome("kd3d_core.cli.export", *words)
    if "not found: pip install" in text:
        pytest.skip(text)
    assert (status, loaded) == (1, [])
    assert message in text
    assert len(text.strip().splitlines()) == 1


def test_a_detection_loads_no_training_library():
    """`lite` on one image: torch, and what its depth network needs, but not mmdet3d."""
    code = """
import sys
import numpy as np
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.runtime.pipeline import CameraDetector
projection = np.array([[372.0, 0, 320, 0], [0, 372, 90, 0], [0, 0, 1, 0]])
camera = PinholeCamera(projection, 640, 192, virtual_lidar_from_camera(1.65))
CameraDetector.from_config("lite", "cpu")(np.zeros((192, 640, 3), np.uint8), camera)
print(sorted({"mmdet3d", "mmdet", "mmcv", "mmengine", "cv2"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.strip() == "[]"
