"""Models of mmdet3d on one image, wherever models go: pipeline, outputs, commands, packing."""

import sys

import numpy as np
import pytest
import torch

from kd3d_core.cli import bench, detect, pseudo_label
from kd3d_core.detectors.mono3d import detector as mono3d
from kd3d_core.detectors.mono3d.config import Mono3dConfig
from kd3d_core.detectors.mono3d.smoke import smoke
from kd3d_core.errors import ConfigError
from kd3d_core.evaluation.depth import model_depth
from kd3d_core.frames import Frame, FrameResult
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.build import load_model, make_model
from kd3d_core.models.config import Mono3dModelConfig, load_model_config, save_model_config
from kd3d_core.models.pack import pack_model
from kd3d_core.outputs import FRAME_OUTPUTS
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import DataConfig, TrainConfig
from kd3d_core.training.precheck import check_stages
from kd3d_core.training.stages import Stage

CPU = torch.device("cpu")
CONFIG = Mono3dModelConfig(Mono3dConfig("smoke", "random"))
CAMERA = PinholeCamera(
    np.array([[90.0, 0, 80, 0], [0, 90, 30, 0], [0, 0, 1, 0]]), 160, 60,
    virtual_lidar_from_camera(1.65),
)  # fmt: skip
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 160, 3), np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(mono3d._DESIGNS, "smoke", lambda: smoke((64, 160)))


def test_it_finds_boxes_and_gives_out_no_points():
    detector = CameraDetector(make_model(CONFIG, CPU))
    found = detector(IMAGE, CAMERA)
    assert len(found.boxes) > 5
    assert found.points.shape == (0, 4)
    assert found.depth is None
    assert not detector.trained
    assert set(found.labels) <= {0, 1, 2}
    result = FrameResult(Frame("0", 0, IMAGE, CAMERA), found, detector.class_names, "lidar")
    made = {output.name: output.encode(result) for output in FRAME_OUTPUTS}
    assert made["~/points"] is None
    assert made["~/detections"] is not None


def test_boxes_that_are_no_numbers_are_left_out(monkeypatch):
    detector = make_model(CONFIG, CPU).detector
    whole = detector(torch.zeros(1, 3, 60, 160), CAMERA)
    detector.network.bbox_head.bbox_coder.base_dims = ((float("inf"),) * 3,) * 3
    assert whole.boxes.shape[1] > 0
    assert detector(torch.zeros(1, 3, 60, 160), CAMERA).boxes.shape == (1, 0, 7)


def test_it_computes_in_single_precision_alone():
    assert make_model(CONFIG, CPU, "fp32").precision == "fp32"
    with pytest.raises(ConfigError, match="precision bf16: smoke computes in fp32"):
        make_model(CONFIG, CPU, "bf16")


def test_it_is_packed_with_its_weights(tmp_path):
    model = make_model(CONFIG, CPU)
    published = tmp_path / "smoke_dla34_pytorch_dlaneck_gn-all_8x4_6x_kitti-mono3d-d46d9bb0.pth"
    torch.save({"meta": {}, "state_dict": model.detector.network.state_dict()}, published)
    named = Mono3dModelConfig(Mono3dConfig("smoke", str(published)), seed=5)
    pack_model(named, tmp_path / "packed", half=False)
    again = load_model(tmp_path / "packed" / "model.yaml", CPU)
    assert again.trained
    expected = CameraDetector(model)(IMAGE, CAMERA)
    np.testing.assert_array_equal(CameraDetector(again)(IMAGE, CAMERA).boxes, expected.boxes)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.yaml"
    save_model_config(CONFIG, path)
    return str(path)


def test_it_says_no_depth_and_is_not_trained(file, tmp_path):
    with pytest.raises(ConfigError, match="is of type mono3d and says no depth"):
        model_depth(file, CPU)
    run = TrainConfig("detector", file, DataConfig(tmp_path), tmp_path)
    with pytest.raises(ConfigError, match="is of type mono3d, which kd3d runs and compares but"):
        check_stages([Stage("a", run, run)])


def test_the_card_says_what_its_one_network_was_trained_on():
    card = load_model_config("smoke_kitti").card
    assert card.trained_on == "KITTI's training split (3712 frames), as mmdet3d publishes it"
    assert card.camera is not None


def test_commands_take_it(file, tracking, tmp_path, monkeypatch):
    root = tracking.root.parent
    command = ["x", str(root), "--model", file, "--frames", "0:1", "--device", "cpu"]
    command += ["--kitti", str(tmp_path / "found"), "--score-threshold", "0"]
    monkeypatch.setattr(sys, "argv", [*command, "--results", str(tmp_path / "results")])
    assert detect.main() == 0
    assert len(next((tmp_path / "found").glob("*.txt")).read_text().splitlines()) > 5
    command = ["x", file, str(root), "--points", "lidar", "--out", str(tmp_path / "labels")]
    monkeypatch.setattr(sys, "argv", command)
    assert pseudo_label.main() == 1
    command = ["x", "--model", "smoke_kitti", "--random", "--data", str(root), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*command, "--images", "1", "--rounds", "1"])
    assert bench.main() == 0
