"""GLPN: max_depth, folders, and errors that say what to do."""

import pytest
import torch
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
    with pytest.raises(WeightsError, match="can't be loaded") as caught:
        load_glpn(folder, CONFIG)
    assert "\n" not in str(caught.value)


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
