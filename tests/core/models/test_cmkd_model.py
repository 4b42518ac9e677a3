"""A model of type cmkd, wherever models go: pipeline, commands, packing, cards."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kd3d_core.cli import detect, weights
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError
from kd3d_core.evaluation.depth import model_depth
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import load_model, make_model
from kd3d_core.models.card import ModelCard, TrainingFrames
from kd3d_core.models.config import (
    CmkdModelConfig,
    LidarModelConfig,
    PseudoLidarConfig,
    load_model_config,
    save_model_config,
)
from kd3d_core.models.pseudo_lidar import pseudo_lidar
from kd3d_core.runtime.pipeline import CameraDetector

CPU = torch.device("cpu")
DETECTOR = DetectorConfig(
    "cmkd_tiny", "random", WindowConfig((64, 192), "crop", 110.0),
    point_cloud_range=(0.0, -12.8, -3.0, 25.6, 12.8, 1.0),
)  # fmt: skip
CONFIG = CmkdModelConfig(DETECTOR, PseudoLidarConfig(keep_fraction=0.5, max_jump=0.0))
CAMERA = PinholeCamera(
    np.array([[220.0, 0, 190, 0], [0, 220, 50, 0], [0, 0, 1, 0]]), 384, 128,
    virtual_lidar_from_camera(1.65),
)  # fmt: skip


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (128, 384, 3), np.uint8)


@pytest.fixture
def trained(tmp_path):
    """A file that names weights, as training leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_file(random_detector(DETECTOR, 1).network.state_dict(), folder / "detector.safetensors")
    card = ModelCard(TrainingFrames("streets"), TrainingFrames("streets"))
    detector = DETECTOR.with_weights("./detector.safetensors")
    save_model_config(replace(CONFIG, detector=detector, card=card), folder / "model.yaml")
    return folder / "model.yaml"


def test_what_it_says_of_an_image():
    model = make_model(CONFIG, CPU)
    assert (model.reads_image, model.reads_points, model.trained) == (True, False, False)
    pixels = torch.from_numpy(image()).permute(2, 0, 1)[None].float()
    stages = []
    with torch.inference_mode():
        found = model(pixels, CAMERA, mark=stages.append)
        depth, _, window = model.depth(pixels, CAMERA)
    assert stages == ["detect", "points"]
    assert found.boxes.valid.any()
    assert found.distribution.shape == (65, 8, 24)
    torch.testing.assert_close(found.distribution.sum(0), torch.ones(8, 24))
    assert found.depth.shape == (64, 192)
    assert torch.equal(found.depth, depth)
    assert torch.equal(found.depth[::8, ::8], found.depth[7::8, 7::8])
    points, valid = pseudo_lidar(
        depth, window.camera(CAMERA), replace(CONFIG.pseudo_lidar, max_depth=25.6),
        window.inside(CAMERA),
    )  # fmt: skip
    assert torch.equal(found.points, points)
    assert torch.equal(found.valid, valid)
    assert valid.any()


def test_what_is_beyond_the_bins_becomes_no_point():
    model = make_model(CONFIG, CPU)
    last = model.detector.network["image_side"].depth[-1]
    torch.nn.init.zeros_(last.weight)
    with torch.inference_mode():
        last.bias.copy_(50.0 * torch.nn.functional.one_hot(torch.tensor(64), 65))
        found = model(torch.zeros(1, 3, 128, 384), CAMERA)
    assert not found.valid.any()
    assert found.depth.unique().tolist() == [pytest.approx(25.6)]


def test_the_pipeline_takes_it(trained):
    detector = CameraDetector.from_config(trained, "cpu")
    answer = detector(image(), CAMERA)
    assert detector.trained
    assert detector.description.startswith("cmkd_tiny")
    assert len(answer.points) > 100
    assert np.isfinite(answer.points).all()
    assert set(answer.timings) == {"upload", "detect", "points", "download"}
    assert np.array_equal(answer.boxes, detector(image(), CAMERA).boxes)


def test_a_packed_one_says_the_same(trained, tmp_path, monkeypatch):
    words = ["kd3d-weights", "pack", str(trained), "--out", str(tmp_path / "packed")]
    monkeypatch.setattr(sys, "argv", words)
    assert weights.main() == 0
    assert load_model_config(tmp_path / "packed" / "model.yaml").card.trained_on == "streets"
    before, after = (
        CameraDetector.from_config(path, "cpu")(image(), CAMERA)
        for path in (trained, tmp_path / "packed" / "model.yaml")
    )
    assert np.array_equal(before.boxes, after.boxes)
    assert np.array_equal(before.points, after.points)


def test_kd3d_detect_takes_it(trained, tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    for number in range(2):
        Image.fromarray(image(number)).save(tmp_path / "images" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    words = "images --intrinsics 220 220 190 50 --camera-height 1.65 --kitti k --device cpu"
    monkeypatch.setattr(sys, "argv", ["kd3d-detect", *words.split(), "--model", str(trained)])
    assert detect.main() == 0, capsys.readouterr()
    assert sorted(path.name for path in (tmp_path / "k").iterdir()) == ["0.txt", "1.txt"]


def test_its_depth_is_evaluated(trained, tracking):
    frame = tracking[3]
    depth = model_depth(str(trained), CPU)(frame)
    assert depth.shape == frame.image_size()
    shown = depth[depth > 0]
    assert len(shown) > 1000
    assert shown.max() <= 25.6 + 1e-3


def test_the_demo_and_its_json_name_its_weights(trained):
    config = load_model_config(trained)
    assert json.dumps(config.weights)
    assert list(config.weights) == ["detector"]
    assert load_model(trained, CPU).depth_window == DETECTOR.window


def test_types_and_detectors_belong_together():
    lite = replace(DETECTOR, type="lite")
    with pytest.raises(ConfigError, match="type cmkd reads an image alone, and lite points"):
        CmkdModelConfig(lite)
    with pytest.raises(ConfigError, match="cmkd_tiny an image alone: use type cmkd"):
        LidarModelConfig(DETECTOR)


@pytest.mark.parametrize("name", ["cmkd_lite", "cmkd_study"])
def test_shipped_ones_can_be_made(name):
    model = load_model(name, CPU)
    assert not model.trained
    assert model.detector.reads_image
