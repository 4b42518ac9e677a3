"""Weights are cast to the model's precision when it is loaded, and not in every frame again."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kd3d_core.models.build
from kd3d_core.depth.config import DepthConfig
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import make_model
from kd3d_core.models.chain import Model, PseudoLidarModel
from kd3d_core.models.config import CmkdModelConfig, PseudoLidarConfig, PseudoLidarModelConfig
from kd3d_core.runtime.pipeline import CameraDetector

WINDOW = WindowConfig((64, 96))
RANGE = (0.0, -6.4, -3.0, 12.8, 6.4, 1.0)
CAMERA = PinholeCamera(
    np.array([[80.0, 0, 48, 0], [0, 80, 32, 0], [0, 0, 1, 0]]), 96, 64,
    virtual_lidar_from_camera(1.65),
)  # fmt: skip
DETECTOR = DetectorConfig("lite", "random", WINDOW, point_cloud_range=RANGE)
MODELS = {
    "lite": PseudoLidarModelConfig(
        DepthConfig("random", WINDOW, encoder="b0"), DETECTOR, PseudoLidarConfig(max_jump=0.0)
    ),
    "cmkd_tiny": CmkdModelConfig(replace(DETECTOR, type="cmkd_tiny")),
}


class WeightCasts(TorchDispatchMode):
    """Counts what is cast out of a network's own storage, as autocast does with weights."""

    def __init__(self, *networks: torch.nn.Module) -> None:
        super().__init__()
        self.count = 0
        self._weights = {
            weight.data_ptr()
            for network in networks for weight in network.parameters()
        }  # fmt: skip

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        if isinstance(answer, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
            is_cast = answer.dtype != args[0].dtype and args[0].is_floating_point()
            self.count += is_cast and args[0].data_ptr() in self._weights
        return answer


def networks(model: Model) -> list[torch.nn.Module]:
    depth = [model.pseudo_lidar.network] if isinstance(model, PseudoLidarModel) else []
    return [*depth, model.detector]


def casts_per_frame(model: Model, image: np.ndarray) -> int:
    detector = CameraDetector(model)
    with WeightCasts(*networks(model)) as casts:
        detector(image, CAMERA)
    return casts.count


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.mark.parametrize("name", MODELS)
def test_no_weight_is_cast_in_a_frame(name, image, monkeypatch):
    """And boxes, scores and depth are those of weights that autocast casts, to the last bit."""
    model = make_model(MODELS[name], torch.device("cpu"), "bf16")
    monkeypatch.setattr(kd3d_core.models.build, "cast_weights", lambda network, precision: None)
    before = make_model(MODELS[name], torch.device("cpu"), "bf16")
    assert casts_per_frame(before, image) > 40  # so that the count is one of weights
    assert casts_per_frame(model, image) == 0
    answer, expected = CameraDetector(model)(image, CAMERA), CameraDetector(before)(image, CAMERA)
    assert len(expected.boxes) > 0
    assert np.array_equal(answer.boxes, expected.boxes)
    assert np.array_equal(answer.scores, expected.scores)
    assert torch.equal(answer.depth, expected.depth)


def test_what_computes_in_single_precision_stays(image):
    model = make_model(MODELS["lite"], torch.device("cpu"), "bf16")
    exact = {
        name
        for network in networks(model)
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        and module.weight.dtype == torch.float32
    }
    assert exact == {"network.head.head.2", "network.pts_voxel_encoder.vfe_layers.0.0"}


@pytest.mark.parametrize("name", MODELS)
def test_single_precision_stays_as_it_is_stored(name):
    model = make_model(MODELS[name], torch.device("cpu"), "fp32")
    for network in networks(model):
        assert {weight.dtype for weight in network.parameters()} == {torch.float32}
