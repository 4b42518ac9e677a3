"""Packing a model into a folder of its own."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kd3d_core.depth.build import make_depth
from kd3d_core.depth.glpn import random_glpn
from kd3d_core.detectors.build import random_detector
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.card import ModelCard, TrainingFrames
from kd3d_core.models.config import load_model_config
from kd3d_core.models.pack import pack_model
from kd3d_core.runtime.pipeline import CameraDetector


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """`lite` with weights from files."""
    folder = tmp_path_factory.mktemp("run")
    config = load_model_config("lite")
    random_glpn(config.depth, 1).save(folder / "depth")
    network = random_detector(config.detector, 1).network
    save_file(network.state_dict(), folder / "detector.safetensors")
    return replace(
        config,
        depth=replace(config.depth, weights=str(folder / "depth")),
        detector=replace(config.detector, weights=str(folder / "detector.safetensors")),
        card=ModelCard(TrainingFrames("streets"), None, {"Car": 0.4}, "by hand"),
    )


@pytest.mark.parametrize("half", [False, True])
def test_a_packed_model_detects_the_same_wherever_it_lies(tmp_path, model, half):
    size = pack_model(model, tmp_path / "packed", half)
    shutil.move(tmp_path / "packed", tmp_path / "moved")
    files = sorted(tmp_path.glob("moved/**/*.safetensors"))
    assert size == sum(path.stat().st_size for path in files)
    packed = CameraDetector.from_config(tmp_path / "moved" / "model.yaml", "cpu")
    assert packed.trained
    assert packed.card == model.card != ModelCard()

    source = tmp_path / "source.yaml"
    from kd3d_core.models.config import save_model_config

    save_model_config(model, source)
    original = CameraDetector.from_config(source, "cpu")
    camera = PinholeCamera(
        np.array([[372.0, 0, 320, 0], [0, 372, 90, 0], [0, 0, 1, 0]]), 640, 192,
        virtual_lidar_from_camera(1.65),
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (192, 640, 3), np.uint8)
    one, other = original(image, camera), packed(image, camera)
    assert torch.is_tensor(other.depth)
    assert other.depth.dtype == torch.float32
    if half:
        relative = (other.depth - one.depth).abs() / one.depth
        assert 0 < relative.mean() < 0.01
    else:
        assert torch.equal(other.depth, one.depth)
        assert np.array_equal(other.boxes, one.boxes)


def test_half_keeps_vectors_and_halves_the_rest(tmp_path, model):
    whole, halved = (pack_model(model, tmp_path / str(half), half) for half in (False, True))
    assert halved < 0.51 * whole
    for name, tensor in load_file(tmp_path / "True" / "detector.safetensors").items():
        assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else tensor.dtype)
        assert tensor.ndim > 1 or tensor.dtype != torch.float16, name


def test_a_packed_depth_network_needs_no_package_with_weights(tmp_path, monkeypatch):
    config = load_model_config("edge")
    network, _ = make_depth(replace(config.depth, encoder_weights="random"), 1)
    network.save(tmp_path / "depth")
    trained = replace(config, depth=replace(config.depth, weights=str(tmp_path / "depth")))
    pack_model(trained, tmp_path / "packed", True)
    monkeypatch.setattr("kd3d_core.depth.efficientnet.find_spec", lambda name: None)
    packed = load_model_config(tmp_path / "packed" / "model.yaml")
    assert packed.depth.encoder_weights == "imagenet"  # what its training began with
    loaded, _ = make_depth(packed.depth, 0)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), network(image), rtol=0.02, atol=0)


def test_a_part_that_is_random_stays_so(tmp_path, model):
    half_trained = replace(model, detector=replace(model.detector, weights="random"))
    pack_model(half_trained, tmp_path, False)
    assert not (tmp_path / "detector.safetensors").exists()
    packed = load_model_config(tmp_path / "model.yaml")
    assert packed.detector.weights == "random"
    assert Path(packed.depth.weights).samefile(tmp_path / "depth")


def test_random_weights_are_not_packed(tmp_path):
    with pytest.raises(ConfigError, match="random"):
        pack_model(load_model_config("lite"), tmp_path, False)
    assert not list(tmp_path.iterdir())
