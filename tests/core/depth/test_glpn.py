"""GLPN: max_depth, folders, and errors that say what to do."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import GLPNConfig, GLPNForDepthEstimation
from transformers.utils.logging import is_progress_bar_enabled

from kd3d_core.depth.glpn import DepthConfig, load_glpn, random_glpn
from kd3d_core.errors import WeightsError
from kd3d_core.geometry.window import WindowConfig

CONFIG = DepthConfig(weights="random", window=WindowConfig((64, 128)), encoder="b0")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def published(tmp_path):
    """A folder like the published KITTI checkpoint: trained at 80 m, config says 10."""
    torch.manual_seed(3)
    network = GLPNForDepthEstimation(GLPNConfig(max_depth=10)).eval()
    network.save_pretrained(tmp_path / "glpn")
    return tmp_path / "glpn", network


@torch.inference_mode()
def test_the_published_checkpoint_is_read_at_its_true_scale(published, images, caplog):
    folder, network = published
    with caplog.at_level("INFO"):
        model = load_glpn(folder, CONFIG)
    raw = network(pixel_values=images).predicted_depth
    torch.testing.assert_close(model(images), raw * 8)
    assert "8 times" in caplog.text


@torch.inference_mode()
def test_depth_scale_is_for_what_max_depth_cannot_repair(published, images):
    folder, network = published
    config = DepthConfig("x", CONFIG.window, max_depth=10, depth_scale=8.0)
    torch.testing.assert_close(
        load_glpn(folder, config)(images), network(pixel_values=images).predicted_depth * 8
    )


@torch.inference_mode()
def test_random_weights_follow_the_seed_and_leave_the_global_one_alone(images):
    state = torch.get_rng_state()
    first, again, other = (random_glpn(CONFIG, seed)(images) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (1, 64, 128)
    assert ((first > 0) & (first < 80)).all()


def test_sizes_are_the_published_ones():
    def millions(encoder):
        model = random_glpn(DepthConfig("random", CONFIG.window, encoder=encoder), 0)
        return sum(parameter.numel() for parameter in model.parameters()) / 1e6

    assert millions("b0") == pytest.approx(3.7, abs=0.1)
    assert millions("b4") == pytest.approx(61.2, abs=0.1)


def test_missing_folder_and_missing_tensors_are_one_line(tmp_path, published):
    with pytest.raises(WeightsError, match="can't be loaded"):
        load_glpn(tmp_path / "nothing", CONFIG)
    folder, network = published
    state = network.state_dict()
    del state["head.head.2.weight"]
    network.save_pretrained(folder, state_dict=state)
    with pytest.raises(WeightsError, match=r"head\.head\.2\.weight"):
        load_glpn(folder, CONFIG)


@pytest.mark.parametrize("kept", [0, 7, 100, 20_000])
def test_a_truncated_file_is_one_line(published, kept):
    folder, _ = published
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(WeightsError, match="can't be read as weights") as caught:
        load_glpn(folder, CONFIG)
    assert "\n" not in str(caught.value)


@pytest.fixture
def small(tmp_path):
    """Folder, settings and tensors of a GLPN of 20,000 weights."""
    network = GLPNForDepthEstimation(
        GLPNConfig(
            max_depth=10, depths=[1, 1, 2, 1], hidden_sizes=[8, 8, 10, 8], decoder_hidden_size=8
        )
    )
    network.save_pretrained(tmp_path / "small")
    settings = json.loads((tmp_path / "small" / "config.json").read_text())
    return tmp_path / "small", settings, dict(network.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"depths": [-1, 1, 2, 1]}, {"depths": [0, 1, 2, 1]}, {"depths": [1, 1, 1, 1]},
        {"depths": [1, 1, 3, 1]}, {"depths": [1, 1]}, {"depths": "x"}, {"depths": None},
        {"depths": 4}, {"hidden_sizes": [8, 8, 10, 16]}, {"hidden_sizes": [8, 8, 10, 10**9]},
        {"hidden_sizes": {"a": 1}}, {"num_encoder_blocks": -3}, {"num_encoder_blocks": 10**7},
        {"num_attention_heads": [0, 0, 0, 0]}, {"hidden_act": 5}, {"hidden_act": "nope"},
        {"max_depth": "ten"}, {"max_depth": None}, {"layer_norm_eps": "x"}, {"strides": [4, 2, 2]},
        {"decoder_hidden_size": -4}, {"id2label": 3}, {"model_type": 3}, {"model_type": "nope"},
        {"model_type": "bert"}, {"patch_sizes": [0, 3, 3, 3]},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_is_not_that_of_the_weights_is_one_line(small, change, capfd):
    folder, settings, _ = small
    (folder / "config.json").write_text(json.dumps(settings | change))
    with pytest.raises(WeightsError) as caught:
        load_glpn(folder, CONFIG)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not capfd.readouterr().err  # no table of transformers


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"depths": 1e999}', "\0"])
def test_a_config_that_is_no_object_is_one_line(small, text):
    folder, *_ = small
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match="can't be loaded") as caught:
        load_glpn(folder, CONFIG)
    assert "\n" not in str(caught.value)


def test_a_cap_of_0_in_the_config_does_not_matter(small, images):
    folder, settings, _ = small
    (folder / "config.json").write_text(json.dumps(settings | {"max_depth": 0}))
    assert load_glpn(folder, CONFIG)(images).isfinite().all()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("more.weight", torch.ones(2), r"1 tensors differ: more\.weight is unknown"),
        ("head.head.2.bias", torch.ones(3), r"head\.head\.2\.bias is \(3,\), not \(1,\)"),
        ("head.head.2.bias", torch.tensor([float("nan")]), r"head\.head\.2\.bias holds NaN"),
        ("head.head.2.bias", torch.tensor([1]), r"head\.head\.2\.bias is int64"),
        ("head.head.2.bias", torch.tensor([True]), r"head\.head\.2\.bias is bool"),
        ("head.head.2.bias", torch.tensor([1e4]), r"head\.head\.2\.bias holds values of 1000"),
    ],
)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_tensors_that_do_not_belong_are_refused_by_name(small, file, name, value, reason):
    folder, _, tensors = small
    (folder / "model.safetensors").unlink()
    stored = tensors | {name: value}
    if file.endswith("bin"):
        torch.save(stored, folder / file)
    else:
        save_file(stored, folder / file)
    with pytest.raises(WeightsError, match=reason):
        load_glpn(folder, CONFIG)


@torch.inference_mode()
@pytest.mark.parametrize("layout", ["bin", "half", "shards"])
def test_weights_are_read_from_every_kind_of_file(small, images, layout):
    folder, _, tensors = small
    expected = load_glpn(folder, CONFIG)(images)
    whole = folder / "model.safetensors"
    if layout == "half":
        save_file({name: value.half() for name, value in tensors.items()}, whole)
    else:
        whole.unlink()
    if layout == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
    if layout == "shards":
        names = sorted(tensors)
        for part in range(2):
            stored = {name: tensors[name] for name in names[part::2]}
            save_file(stored, folder / f"model-0000{part + 1}-of-00002.safetensors")
    model = load_glpn(folder, CONFIG)
    assert all(value.dtype != torch.float16 for value in model.state_dict().values())
    torch.testing.assert_close(
        model(images), expected, rtol=0.01 if layout == "half" else 0, atol=0
    )


def test_a_folder_without_weights_is_one_line(small):
    folder, *_ = small
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_glpn(folder, CONFIG)


def test_loading_a_folder_draws_no_bar(published, capfd):
    folder, _ = published
    load_glpn(folder, CONFIG)
    assert not capfd.readouterr().err
    assert is_progress_bar_enabled()


def test_half_precision_does_not_round_the_answer(images):
    """bf16 has 8 bits: it would round this depth to a handful of values."""
    model = random_glpn(CONFIG, 1)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            depth = model(images)
    assert depth.dtype == torch.float32
    assert depth.unique().numel() > depth.numel() // 2
    torch.testing.assert_close(depth, exact, rtol=0.01, atol=0)
