"""Checkpoints from elsewhere: mmdet3d's files, and files that mean harm."""

import collections
import os
from pathlib import Path

import mmdet3d_networks
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from kd3d_core.detectors.build import load_detector
from kd3d_core.detectors.checkpoint import in_mmcv_layout, load_tensors, read_tensors
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.sparse import SparseConv
from kd3d_core.errors import WeightsError
from kd3d_core.geometry.window import WindowConfig

KINDS = ("mvxnet", "second", "pointpillars")
WINDOW = WindowConfig((1, 1))


def upstream(kind: str) -> torch.nn.Module:
    """mmdet3d's own network, every tensor different from what ours start with."""
    network = mmdet3d_networks.network(kind)
    generator = torch.Generator().manual_seed(7)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator) * 0.05
            value.copy_(noise + 0.5 if name.endswith("running_var") else noise - 0.025)
        else:
            value.fill_(3)
    return network


def mmengine_file(path: Path, state: dict, **more) -> Path:
    """A file like those that mmengine's runner writes, training log and optimizer included."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    history.update(0.5)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(2)
    optimizer.step()
    torch.save(
        {
            "meta": {"cfg": "model = dict()", "seed": 3, "epoch": 80, "time": np.float64(1.5)},
            "state_dict": collections.OrderedDict(state),
            "optimizer": optimizer.state_dict(),
            "message_hub": {
                "log_scalars": collections.OrderedDict({"train/loss": history}),
                "runtime_info": collections.OrderedDict(iter=1, metric=np.zeros(3)),
            },
            "param_schedulers": [{"last_step": 5}],
            **more,
        },
        path,
    )
    return path


def spconv2(state: dict) -> dict:
    """Sparse convolutions as (out, kz, ky, kx, in)."""
    return {n: v.permute(4, 0, 1, 2, 3) if v.ndim == 5 else v for n, v in state.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [dict, spconv2], ids=["mmcv", "spconv2"])
def test_every_tensor_of_a_file_of_mmdet3d_arrives(kind, layout, tmp_path):
    theirs = upstream(kind)
    state = theirs.state_dict()
    path = mmengine_file(tmp_path / "model.pth", layout(state))
    detector = load_detector(path, DetectorConfig(kind, str(path), WINDOW))
    loaded = detector.network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert not detector.training


@pytest.mark.parametrize("kind", ["second", "pointpillars"])
@torch.inference_mode()
def test_answers_are_those_of_the_model_that_was_saved(kind, tmp_path):
    theirs = upstream(kind)
    path = mmengine_file(tmp_path / "model.pth", spconv2(theirs.state_dict()))
    ours = load_detector(path, DetectorConfig(kind, str(path), WINDOW))
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


def test_every_mismatch_is_named_and_nothing_is_loaded(tmp_path, caplog):
    network = TinySparse()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    del state["linear.bias"]
    state["linear.weight"] = torch.zeros(2, 7)
    state |= {f"extra.{i}": torch.zeros(1) for i in range(6)}
    with pytest.raises(WeightsError, match="8 tensors differ") as caught:
        load_tensors(network, state, tmp_path / "file.pth")
    assert "\n" not in str(caught.value)
    assert "linear.bias is missing" in str(caught.value)
    for problem in ("linear.weight is (2, 7), not (2, 2)", "extra.5 is unknown"):
        assert problem in caplog.text
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


class _Harm:
    """Unpickled in the ordinary way, it makes a file."""

    def __init__(self, marker: Path, how: str) -> None:
        self.call = {
            "system": (os.system, (f"touch {marker}",)),
            "eval": (eval, (f"open({str(marker)!r}, 'w').close()",)),
            "method": (Path.touch, (marker,)),
        }[how]

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("how", "name"), [("system", "system"), ("eval", "eval"), ("method", "pathlib")]
)
@pytest.mark.parametrize("place", ["meta", "state_dict"])
def test_files_that_mean_harm_are_refused_and_not_run(how, name, place, tmp_path):
    marker = tmp_path / "marker"
    path, harm = tmp_path / "model.pth", _Harm(marker, how)
    if place == "meta":
        mmengine_file(path, {"a": torch.zeros(1)}, extra=harm)
    else:
        mmengine_file(path, {"a": torch.zeros(1), "b": harm})
    with pytest.raises(WeightsError, match=f"nothing of it was run: it names .*{name}") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the file would have done it
    assert marker.exists()


class _ThroughGetattr:
    """Reaches for a function by `getattr`, whose name files of mmengine have a use for."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (_Reached(), (self.marker,))


class _Reached:
    def __reduce__(self):
        return (getattr, (HistoryBuffer, "mean"))

    def __call__(self, *_): ...


def test_names_that_are_let_through_do_nothing(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": _ThroughGetattr(tmp_path)}, path)
    with pytest.raises(WeightsError, match="nothing of it was run"):
        read_tensors(path)
    history = HistoryBuffer([1.0], [1])
    torch.save({"state_dict": {"a": torch.ones(2)}, "x": [history, np.ones(3)]}, path)
    assert torch.equal(read_tensors(path)["a"], torch.ones(2))
    # The permission ends with the call.
    with pytest.raises(Exception, match=r"HistoryBuffer|getattr|numpy"):
        torch.load(path, weights_only=True)


def test_plain_files_of_tensors_are_read(tmp_path):
    tensors = {"a": torch.arange(3.0), "b.c": torch.ones(2, 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save(tensors, tmp_path / "x.pth")
    for name in ("x.safetensors", "x.pth"):
        found = read_tensors(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"\x80\x02]q\x00.", b"\x80\x05K\x01.", b"PK\x03\x04broken"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_one_line(content, suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("stored", [torch.ones(2), [1, 2], {"state_dict": {}}, {"meta": 1}])
def test_files_without_named_tensors_are_refused(stored, tmp_path):
    torch.save(stored, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="no tensors by name"):
        read_tensors(tmp_path / "x.pth")
