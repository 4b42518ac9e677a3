"""Whole models, exported for an engine: minutes on a busy machine."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kd3d_core.depth.build import make_depth
from kd3d_core.depth.config import DepthConfig
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import load_model
from kd3d_core.models.config import PseudoLidarModelConfig, load_model_config, without_engine
from kd3d_core.models.engines.export import Int8, export_model
from kd3d_core.models.pack import pack_model
from kd3d_core.runtime.pipeline import CameraDetector

CPU = torch.device("cpu")
WINDOW = WindowConfig((64, 96))
CAMERA = PinholeCamera(
    np.array([[80.0, 0, 48, 0], [0, 80, 30, 0], [0, 0, 1, 0]]), 96, 64,
    virtual_lidar_from_camera(1.65),
)  # fmt: skip
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
FRAMES = [(image, CAMERA) for image in IMAGES]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A small `edge` on a pyramid, with weights from files."""
    for package in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("run")
    depth = DepthConfig("random", WINDOW, "pyramid")
    make_depth(depth, 0)[0].save(folder / "depth")
    detector = DetectorConfig(
        "edge", "random", WINDOW, point_cloud_range=(0.0, -8.0, -3.0, 16.0, 8.0, 1.0)
    )
    weights = random_detector(detector, 0).network.state_dict()
    save_file(weights, folder / "detector.safetensors")
    return PseudoLidarModelConfig(
        replace(depth, weights=str(folder / "depth")),
        detector.with_weights(str(folder / "detector.safetensors")),
    )


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_exported_model_finds_the_same_boxes(config, tmp_path, engine):
    parity = export_model(config, engine, FRAMES[:2], tmp_path / "made")
    assert parity.equal
    (tmp_path / "made").rename(tmp_path / "moved")
    exported = load_model_config(tmp_path / "moved" / "model.yaml")
    in_engine = CameraDetector(load_model(tmp_path / "moved" / "model.yaml", CPU))
    assert engine in in_engine.description
    in_torch = CameraDetector.from_config(_saved(without_engine(exported), tmp_path / "torch.yaml"))
    one, other = in_torch(IMAGES[2], CAMERA), in_engine(IMAGES[2], CAMERA)
    assert len(one.boxes) > 3
    np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3)
    # Packing takes it along; halves of weights that it doesn't have are refused.
    pack_model(exported, tmp_path / "packed", half=False)
    packed = CameraDetector(load_model(tmp_path / "packed" / "model.yaml", CPU))
    assert np.array_equal(packed(IMAGES[2], CAMERA).boxes, other.boxes)
    with pytest.raises(ConfigError, match="--half"):
        pack_model(exported, tmp_path / "half", half=True)
    # Other weights than those in the engine aren't used without a word.
    weights = tmp_path / "moved" / "detector.safetensors"
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(ConfigError, match="made for other weights"):
        load_model(tmp_path / "moved" / "model.yaml", CPU)


@pytest.mark.slow
def test_int8_is_smaller_and_said(config, tmp_path):
    parity = export_model(
        config, "onnxruntime", FRAMES[:1], tmp_path / "made", Int8(FRAMES[1:], keep_fp32=["depth"])
    )
    made = load_model_config(tmp_path / "made" / "model.yaml")
    assert made.engine.int8 == ("image", "bev")
    assert parity.metres
    assert made.engine.file("bev").stat().st_size < 0.5e6
    assert "int8: image, bev" in load_model(tmp_path / "made" / "model.yaml", CPU).description


@pytest.mark.slow
def test_other_boxes_are_refused(config, tmp_path, monkeypatch):
    monkeypatch.setattr("kd3d_core.models.engines.export.torch.onnx.export", _shifted)
    with pytest.raises(ConfigError, match=r"onnxruntime and torch differ by more .* nothing was"):
        export_model(config, "onnxruntime", FRAMES[:1], tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_said(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/made can't be written: .*File exists"):
        export_model(config, "onnxruntime", FRAMES[:1], tmp_path / "file" / "made")


_export = torch.onnx.export


def _shifted(module, *args, **settings):
    """The export of a network whose first answer is a little too large."""

    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x):
            answers = self.module(x)
            if isinstance(answers, torch.Tensor):
                return 1.05 * answers
            return answers

    return _export(Shifted(), *args, **settings)


def _saved(config, path):
    from kd3d_core.models.config import save_model_config

    save_model_config(config, path)
    return path
