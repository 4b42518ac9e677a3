"""Metric models of other architectures: their own preprocessing, our geometry."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BeitConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTImageProcessorPil,
    GLPNConfig,
    GLPNForDepthEstimation,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)
from transformers.models.zoedepth.image_processing_pil_zoedepth import ZoeDepthImageProcessorPil

from kd3d_core.depth.auto import AutoDepthModel, load_auto
from kd3d_core.depth.build import make_depth
from kd3d_core.depth.config import DepthConfig
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import PseudoLidarConfig, load_model_config
from kd3d_core.models.pseudo_lidar import pseudo_lidar

CONFIG = DepthConfig("folder", type="auto")


def scrambled(network):
    """Weights for which the answers spread."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def depth_anything(folder: Path, kind: str = "metric", max_depth: int = 80) -> Path:
    """A tiny Depth Anything V2 with a processor like the published one's."""
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=4, depth_estimation_type=kind, max_depth=max_depth,
    )  # fmt: skip
    scrambled(DepthAnythingForDepthEstimation(config)).save_pretrained(folder)
    DPTImageProcessorPil(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14
    ).save_pretrained(folder)
    return folder


def zoedepth(folder: Path) -> Path:
    """A tiny ZoeDepth NYU-KITTI with a processor like the published one's."""
    torch.manual_seed(0)
    backbone = BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        image_size=64, patch_size=16, use_relative_position_bias=True, reshape_hidden_states=False,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8,
        bottleneck_features=8, num_relative_features=4, bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1], num_patch_transformer_layers=4,
        patch_transformer_hidden_size=128, patch_transformer_intermediate_size=16,
        patch_transformer_num_attention_heads=2,
        bin_configurations=[
            {"name": "nyu", "n_bins": 8, "min_depth": 1e-3, "max_depth": 10.0},
            {"name": "kitti", "n_bins": 8, "min_depth": 1e-3, "max_depth": 80.0},
        ],
    )  # fmt: skip
    scrambled(ZoeDepthForDepthEstimation(config)).save_pretrained(folder)
    ZoeDepthImageProcessorPil(
        size={"height": 96, "width": 128}, ensure_multiple_of=32,
        image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5],
    ).save_pretrained(folder)  # fmt: skip
    return folder


MAKERS = [depth_anything, zoedepth]


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def folder(request, tmp_path) -> Path:
    return request.param(tmp_path / "model")


@pytest.fixture
def camera() -> PinholeCamera:
    projection = np.array([[180.0, 0, 155.2, 11.2], [0, 180.0, 43.1, 0.05], [0, 0, 1, 0.003]])
    return PinholeCamera(projection, 311, 94, virtual_lidar_from_camera(1.65))


def image_of(camera: PinholeCamera) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 12, 40, generator=generator)
    size = (camera.height, camera.width)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear").mul(255).round()


@torch.inference_mode()
def test_answers_in_metres_on_the_grid_of_the_window(folder, camera):
    model, window = load_auto(folder, CONFIG)
    image = window.window(camera).extract(image_of(camera)) / 255
    depth = model(image)
    assert depth.shape == (1, *image.shape[-2:])
    assert torch.isfinite(depth).all()
    assert depth.min() >= 0
    assert depth.min() + 0.1 < depth.max() <= 80
    doubled, _ = load_auto(folder, replace(CONFIG, depth_scale=2.0))
    torch.testing.assert_close(doubled(image), depth * 2)


@torch.inference_mode()
def test_the_network_is_run_as_transformers_runs_it(folder, camera):
    """Fed the very pixels that the network saw, it gives the answer that was cut from it."""
    model, window = load_auto(folder, CONFIG)
    image = window.window(camera).extract(image_of(camera)) / 255
    pixels = model.network_input(image)
    raw = model.network(pixel_values=pixels).predicted_depth
    if raw.shape[-2:] != pixels.shape[-2:]:
        raw = torch.nn.functional.interpolate(raw[None], pixels.shape[-2:], mode="bilinear")[0]
    top, left = ((pixels.shape[axis] - image.shape[axis]) // 2 for axis in (2, 3))
    inner = raw[:, top:, left:][:, : image.shape[2], : image.shape[3]]
    torch.testing.assert_close(model(image), inner)


def test_normalisation_and_padding_are_the_processors_own(folder):
    """On an image that the processor doesn't resize."""
    model, _ = load_auto(folder, CONFIG)
    pixels = np.random.default_rng(0).integers(0, 256, (98, 140, 3), np.uint8)
    theirs = model._processor(pixels, return_tensors="pt", do_resize=False).pixel_values
    ours = model.network_input(torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255)

    def centre(image: torch.Tensor) -> torch.Tensor:
        top, left = (image.shape[2] - 98) // 2, (image.shape[3] - 140) // 2
        border = 5 if image.shape[2] > 98 else 0  # the mirror image is checked as well
        return image[..., top - border : top + 98 + border, left - border : left + 140 + border]

    torch.testing.assert_close(centre(ours), centre(theirs), atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", [(375, 1242), (370, 1224), (1080, 1920), (480, 640), (600, 500)])
def test_the_window_is_as_large_as_what_the_processor_makes(folder, size):
    height, width = size
    model, config = load_auto(folder, CONFIG)
    projection = np.array([[700.0, 0, width / 2, 0], [0, 700.0, height / 2, 0], [0, 0, 1, 0]])
    window = config.window(PinholeCamera(projection, width, height, virtual_lidar_from_camera(1)))
    theirs = model._processor(np.zeros((height, width, 3), np.uint8), return_tensors="pt")
    seen = model.network_input(torch.zeros(1, 3, window.height, window.width))
    multiple = model.preprocessing.multiple_of
    for mine, other in zip(seen.shape[-2:], theirs.pixel_values.shape[-2:], strict=True):
        assert mine % multiple == 0
        assert abs(mine - other) <= (multiple if model.preprocessing.margin else 0)
    # The image fills the window: no black border.
    assert (window.extract(torch.ones(1, 1, height, width)) > 0.999).all()


@pytest.mark.parametrize("size", [(94, 311), (270, 480)])
def test_points_project_back_into_their_own_pixels(folder, camera, size):
    """Depth that is read at a pixel of the window stands at that pixel of the original image."""
    height, width = size
    camera = replace(camera, height=height, width=width)
    model, config = load_auto(folder, CONFIG)
    window = config.window(camera)
    # An image whose colours are its own coordinates.
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    coordinates = window.extract(torch.stack([u, v])[None].float())[0]
    depth = torch.full((window.height, window.width), 20.0)
    settings = PseudoLidarConfig(keep_fraction=1.0, max_jump=0)
    points, valid = pseudo_lidar(depth, window.camera(camera), settings)
    assert valid.all()
    pixels, distance = camera.project(points.double())
    expected = coordinates.flatten(1).T.double()
    inner = torch.zeros(window.height, window.width, dtype=torch.bool)
    inner[3:-3, 3:-3] = True  # interpolation flattens a ramp at its ends
    assert (pixels - expected)[inner.flatten()].abs().max() < 0.5
    assert torch.allclose(distance, torch.tensor(20.0).double(), atol=1e-3)
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, window.height, window.width)).shape[1:] == depth.shape


def test_a_given_window_wins_if_it_suits_the_network(tmp_path):
    folder = depth_anything(tmp_path / "model")
    window = WindowConfig((56, 140), "crop", focal_px=150.0)
    model, config = make_depth(replace(CONFIG, weights=str(folder), window=window), seed=0)
    assert config.window == window
    assert model(torch.rand(2, 3, 56, 140)).shape == (2, 56, 140)
    bad = replace(CONFIG, window=WindowConfig((60, 140)))
    with pytest.raises(WeightsError, match=r"multiples of 14: use \[56, 140\]"):
        load_auto(folder, bad)


def test_what_was_saved_is_loaded_again(folder, tmp_path):
    model, window = load_auto(folder, CONFIG)
    model.save(tmp_path / "again")
    again, same_window = load_auto(tmp_path / "again", CONFIG)
    image = torch.rand(1, 3, 84, 112)
    assert same_window == window
    assert torch.equal(again(image), model(image))
    assert {"image_mean", "image_std"} <= set(model.state_dict())


def test_models_that_do_not_answer_in_metres_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="doesn't answer in metres"):
        load_auto(depth_anything(tmp_path / "relative", "relative"), CONFIG)
    DPTConfig().save_pretrained(tmp_path / "dpt")
    with pytest.raises(WeightsError, match="doesn't answer in metres"):
        load_auto(tmp_path / "dpt", CONFIG)
    with pytest.raises(WeightsError, match="max_depth 20"):
        load_auto(depth_anything(tmp_path / "indoor", max_depth=20), CONFIG)
    GLPNForDepthEstimation(GLPNConfig(depths=[1] * 4)).save_pretrained(tmp_path / "glpn")
    with pytest.raises(WeightsError, match="type glpn"):
        load_auto(tmp_path / "glpn", CONFIG)


def test_damaged_folders_are_one_line(tmp_path):
    folder = depth_anything(tmp_path / "model")
    state = DepthAnythingForDepthEstimation.from_pretrained(folder).state_dict()
    del state["head.conv3.weight"]
    network = DepthAnythingForDepthEstimation.from_pretrained(folder)
    network.save_pretrained(folder, state_dict=state)
    with pytest.raises(WeightsError, match=r"head\.conv3\.weight"):
        load_auto(folder, CONFIG)
    (folder / "preprocessor_config.json").unlink()
    for missing in (folder, tmp_path / "nothing"):
        with pytest.raises(WeightsError, match="can't be loaded") as caught:
            load_auto(missing, CONFIG)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"fusion_hidden_size": 16}),
        ("config.json", {"max_depth": "far"}),
        ("config.json", {"neck_hidden_sizes": None}),
        ("preprocessor_config.json", {"size": "big"}),
        ("preprocessor_config.json", {"image_mean": ["a", 0, 0]}),
        ("preprocessor_config.json", {"image_processor_type": 7}),
        ("preprocessor_config.json", {"image_std": [0.5, 0.5]}),
        ("preprocessor_config.json", {"ensure_multiple_of": "x"}),
    ],
    ids=str,
)
def test_wrong_settings_of_a_folder_are_one_line(tmp_path, file, change):
    path = depth_anything(tmp_path / "model") / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WeightsError) as caught:
        load_auto(path.parent, CONFIG)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configurations_say_what_is_missing():
    with pytest.raises(ConfigError, match="window"):
        DepthConfig("random")
    with pytest.raises(ConfigError, match="random"):
        DepthConfig("random", type="auto")


@pytest.mark.parametrize("name", ["mvxnet_depth_anything", "mvxnet_zoedepth"])
def test_shipped_configurations_name_weights_that_exist(name, tmp_path, monkeypatch):
    config = load_model_config(name)
    assert config.depth.type == "auto"
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=f"kd3d-weights get {config.depth.weights}"):
        make_depth(config.depth, config.seed)


def test_the_models_are_what_they_say(folder):
    model, config = make_depth(replace(CONFIG, weights=str(folder)), seed=0)
    assert isinstance(model, AutoDepthModel)
    assert not model.training
    assert config.window is not None
    assert config.window.mode == "fit"
