"""Checkpoints of mmdet3d in our networks."""

from pathlib import Path

import mmdet3d_networks
import pytest
import torch

from kd3d_core.detectors.build import load_detector
from kd3d_core.detectors.checkpoint import in_mmcv_layout, load_tensors
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.sparse import SparseConv
from kd3d_core.errors import WeightsError
from kd3d_core.geometry.window import WindowConfig

KINDS = ("mvxnet", "second", "pointpillars")
WINDOW = WindowConfig((1, 1))


def upstream(kind: str, is_near: bool = False) -> torch.nn.Module:
    """mmdet3d's own network, every tensor different from what ours start with."""
    network = mmdet3d_networks.network(kind, is_near=is_near)
    generator = torch.Generator().manual_seed(7)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator) * 0.05
            value.copy_(noise + 0.5 if name.endswith("running_var") else noise - 0.025)
        else:
            value.fill_(3)
    return network


def spconv2(state: dict) -> dict:
    """Sparse convolutions as (out, kz, ky, kx, in)."""
    return {n: v.permute(4, 0, 1, 2, 3) if v.ndim == 5 else v for n, v in state.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [dict, spconv2], ids=["mmcv", "spconv2"])
def test_every_tensor_of_a_file_of_mmdet3d_arrives(kind, layout, tmp_path):
    theirs = upstream(kind)
    state = theirs.state_dict()
    path = tmp_path / "model.pth"
    torch.save({"meta": {}, "state_dict": layout(state)}, path)
    detector = load_detector(path, DetectorConfig(kind, str(path), WINDOW))
    loaded = detector.network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert not detector.training


@pytest.mark.parametrize("kind", ["second", "pointpillars"])
@torch.inference_mode()
def test_answers_are_those_of_the_model_that_was_saved(kind, tmp_path):
    theirs = upstream(kind, is_near=True)
    path = tmp_path / "model.pth"
    torch.save({"meta": {}, "state_dict": spconv2(theirs.state_dict())}, path)
    near = DetectorConfig(kind, str(path), WINDOW, point_cloud_range=mmdet3d_networks.NEAR)
    ours = load_detector(path, near)
    cloud = torch.rand(300, 4) * torch.tensor([20.0, 20, 3, 1]) + torch.tensor([5.0, -10, -2.5, 0])
    samples = torch.zeros(len(cloud), dtype=torch.int64)
    maps = ours(cloud, samples, torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 4))
    voxels = ours.voxels(cloud, samples, None, 1)
    features = theirs.extract_feat(
        {
            "voxels": {
                "voxels": voxels.points,
                "num_points": voxels.num_points,
                "coors": voxels.coords,
            }
        }
    )
    (logits,), (deltas,), (directions,) = theirs.bbox_head(features)
    assert torch.equal(maps.logits, logits)
    assert torch.equal(maps.deltas, deltas)
    assert torch.equal(maps.directions, directions)
    assert logits.std() > 0


class TinySparse(torch.nn.Module):
    """Two sparse convolutions, one of a shape that both layouts share, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = SparseConv(3, 5)
        self.cube = SparseConv(3, 3)
        self.linear = torch.nn.Linear(2, 2)


def test_a_weight_of_either_layout_follows_the_others_of_its_file():
    network = TinySparse()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for stored in (state, spconv2(state)):
        found = in_mmcv_layout(stored, network, Path("file"))
        assert all(torch.equal(found[name], state[name]) for name in state)
    mixed = {**state, "cube.weight": spconv2(state)["cube.weight"]}
    assert torch.equal(
        in_mmcv_layout(mixed, network, Path("f"))["cube.weight"], mixed["cube.weight"]
    )
    network.other = SparseConv(2, 4)
    state["other.weight"] = network.other.weight.detach()
    state["plain.weight"] = spconv2(state)["plain.weight"]
    with pytest.raises(WeightsError, match=r"plain\.weight is spconv 2's and other\.weight mmcv's"):
        in_mmcv_layout(state, network, Path("file"))


def test_mismatches_are_counted_the_first_named_and_nothing_is_loaded(tmp_path, caplog):
    network = TinySparse()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    del state["linear.bias"]
    state["linear.weight"] = torch.zeros(2, 7)
    state |= {f"extra.{i}": torch.zeros(1) for i in range(6)}
    with pytest.raises(WeightsError, match="8 tensors differ") as caught:
        load_tensors(network, state, tmp_path / "file.pth")
    assert "\n" not in str(caught.value)
    assert "differ: linear.bias is missing, extra.0 is unknown, extra.1 is" in str(caught.value)
    assert str(caught.value).endswith("extra.3 is unknown and 3 more")
    assert not caplog.text  # some hundred names would be lines without end
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)


def test_the_data_preprocessor_is_left_out_and_said_so(caplog):
    network = TinySparse()
    state = {name: value + 1 for name, value in network.state_dict().items()}
    with caplog.at_level("INFO"):
        load_tensors(
            network, {**state, "data_preprocessor.mean": torch.ones(3, 1, 1)}, Path("file.pth")
        )
    assert "data_preprocessor.mean" in caplog.text
    assert torch.equal(network.linear.bias, state["linear.bias"])
