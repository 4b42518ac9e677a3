"""Parts of a model in an inference engine."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kd3d_core.bench.ours import count_parameters
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import make_model
from kd3d_core.models.config import (
    PseudoLidarModelConfig,
    load_model_config,
    save_model_config,
    without_engine,
)
from kd3d_core.models.engines.config import EngineConfig
from kd3d_core.models.engines.load import fingerprint, load_parts
from kd3d_core.models.engines.parity import Found, compare
from kd3d_core.models.engines.part import EnginePart
from kd3d_core.models.engines.parts import detector_parts, put_detector_parts
from kd3d_core.weights.download import sha256_of

CPU = torch.device("cpu")
WINDOW = WindowConfig((64, 96))


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """`x` of 1 x 3 x 64 x 96 to `x + x` and `relu(x)`."""
    onnx = pytest.importorskip("onnx")
    shape = [1, 3, 64, 96]
    value, helper = onnx.helper.make_tensor_value_info, onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["a"]), helper.make_node("Relu", ["x"], ["b"])],
        "two",
        [value("x", onnx.TensorProto.FLOAT, shape)],
        [value(name, onnx.TensorProto.FLOAT, shape) for name in "ab"],
    )
    path = tmp_path_factory.mktemp("engine") / "image.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_computes_what_the_file_says(onnx_file, engine):
    pytest.importorskip(engine)
    part = EnginePart(engine, onnx_file)
    x = torch.randn(1, 64, 96, 3, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    doubled, positive = part(x)
    part(-x)  # what was given out before is still the same
    assert torch.equal(doubled, 2 * x)
    assert torch.equal(positive, x.relu())
    with pytest.raises(ConfigError, match=r"made for an input of \[1, 3, 64, 96\], .*kd3d-export"):
        part(x[:, :, :32])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_says_what_is_wrong(tmp_path, monkeypatch, engine):
    pytest.importorskip(engine)
    broken = tmp_path / "bev.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=rf"bev\.onnx: {engine} can't load it .*kd3d-export"):
        EnginePart(engine, broken)
    monkeypatch.setattr("kd3d_core.models.engines.config.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"{engine} not found: pip install {engine}, or take"):
        EnginePart(engine, broken)


@pytest.fixture
def model(onnx_file):
    """A model of random weights with an engine for its image side."""
    pytest.importorskip("onnxruntime")
    config = load_model_config("lite")
    assert isinstance(config, PseudoLidarModelConfig)
    files = {"image": sha256_of(onnx_file)}
    engine = EngineConfig("onnxruntime", str(onnx_file.parent), fingerprint(config), files)
    return replace(config, engine=engine)


def test_a_part_of_this_model_is_loaded(model, tmp_path):
    save_model_config(model, tmp_path / "model.yaml")
    again = load_model_config(tmp_path / "model.yaml")
    assert again == model
    parts = load_parts(again, {"image": WINDOW}, CPU, "auto")
    assert parts["image"].shape == (1, 3, 64, 96)


def test_parameters_that_an_engine_has_count(model):
    emptied = SimpleNamespace(config=model, detector=torch.nn.Identity())
    assert count_parameters(emptied) == count_parameters(make_model(without_engine(model), CPU))


def test_what_does_not_fit_is_named(model):
    def fails(error, message, changed=model, window=WINDOW, device=CPU, precision="auto"):
        with pytest.raises(error, match=message):
            load_parts(changed, {"image": window}, device, precision)

    fails(ConfigError, "the device is cuda", device=torch.device("cuda"))
    fails(ConfigError, "precision is bf16", precision="bf16")
    fails(
        ConfigError,
        "a window of 64 x 96, and the model's is 96 x 64",
        window=WindowConfig((96, 64)),
    )
    other_range = replace(model.detector, point_cloud_range=(0, -8, -3, 16, 8, 1))
    for changed in (
        replace(model, detector=other_range),
        replace(model, depth=replace(model.depth, max_depth=60)),
        replace(model, seed=model.seed + 1),
    ):
        fails(ConfigError, "made for other weights or settings", changed)
    damaged = replace(model.engine, files={"image": "0" * 64})
    fails(
        WeightsError, r"image\.onnx is missing or not what was exp", replace(model, engine=damaged)
    )


@pytest.mark.parametrize("kind", ["edge", "cmkd_tiny"])
def test_parts_out_and_in_again_are_the_same_detector(kind):
    config = DetectorConfig(
        kind, "random", WindowConfig((64, 96)), point_cloud_range=(0, -8, -3, 16, 8, 1)
    )
    detector = random_detector(config, 0)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(200, 4, generator=generator) * 8
    image = torch.rand(1, 3, 64, 96, generator=generator) * 255
    projection = torch.tensor([[[48.0, -60, 0, 0], [32, 0, -60, 0], [1, 0, 0, 0]]])
    frame = (points, torch.zeros(200, dtype=torch.int64), image, projection)
    with torch.inference_mode():
        before = detector(*frame)
        parts = detector_parts(detector)
        put_detector_parts(detector, parts)
        after = detector(*frame)
        assert torch.equal(after.deltas, before.deltas)
        assert torch.equal(after.logits, before.logits)
        # And it is the parts that compute.
        put_detector_parts(detector, {**parts, "bev": torch.nn.Identity()})
        with pytest.raises(TypeError):
            detector(*frame)
    assert detector.boxes(before).boxes.shape[-1] == 7


def found(xs, scores, label=2):
    boxes = np.array([[x, 0, -1, 4, 2, 1.5, 0.3] for x in xs], np.float32).reshape(-1, 7)
    return Found(boxes, np.array(scores), np.full(len(xs), label))


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (found([10.01, 30], [0.891, 0.5]), True),
        (found([30, 10], [0.5, 0.9]), True),
        (found([10.03, 30], [0.9, 0.5]), False),  # three centimetres
        (found([10, 30], [0.92, 0.5]), False),
        (found([10], [0.9]), False),
        (found([10, 30, 50], [0.9, 0.5, 0.4]), False),
        (found([10, 30, 50], [0.9, 0.5, 0.105]), True),  # at the threshold
        (found([10, 30], [0.9, 0.5], label=1), False),
    ],
)
def test_boxes_are_equal_within_limits(other, equal):
    parity = compare([found([10, 30], [0.9, 0.5])], [other], threshold=0.1)
    assert parity.equal == equal


def test_a_turned_box_is_another():
    one = found([10], [0.9])
    turned = replace(one, boxes=one.boxes + np.array([0, 0, 0, 0, 0, 0, 0.02], np.float32))
    assert not compare([one], [turned], 0.1).equal
