"""Files of tensors: mmengine's, damaged ones, and files that mean harm."""

import collections
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from kd3d_core.errors import WeightsError
from kd3d_core.weights.tensors import read_tensors


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


@pytest.mark.parametrize(
    "stored",
    [
        torch.ones(2), [1, 2], {"state_dict": {}}, {"meta": 1}, {"state_dict": [torch.ones(1)]},
        {1: torch.ones(2)}, {"state_dict": {None: torch.ones(2)}}, {},
    ],
)  # fmt: skip
def test_files_without_named_tensors_are_refused(stored, tmp_path):
    torch.save(stored, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="no tensors by name"):
        read_tensors(tmp_path / "x.pth")


def test_files_that_unpack_to_more_than_they_have_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for part in plain.infolist():
            packed.writestr(part.filename, plain.read(part))
    with pytest.raises(WeightsError, match="would unpack to 4 MB; torch compresses nothing"):
        read_tensors(tmp_path / "packed.pth")


def test_what_a_file_holds_in_place_of_weights_is_named(tmp_path):
    torch.save({"epoch": 3, "optimizer": {}, "x" * 10_000: 1}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"it holds epoch, optimizer, x{50}") as caught:
        read_tensors(tmp_path / "x.pth")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_prefixes_of_parallel_wrappers_are_left_out(suffix, tmp_path):
    path, tensors = tmp_path / f"x.{suffix}", {"a": torch.ones(2), "b.c": torch.zeros(1)}
    for prefix in ("", "module.", "module.module."):
        stored = {prefix + name: value for name, value in tensors.items()}
        save_file(stored, path) if suffix == "safetensors" else torch.save(stored, path)
        found = read_tensors(path)
        assert found.keys() == tensors.keys()
        assert torch.equal(found["a"], tensors["a"])
    # Of a network with a part of that name.
    torch.save({"module.a": torch.ones(2), "b": torch.ones(1)}, tmp_path / "x.pth")
    assert read_tensors(tmp_path / "x.pth").keys() == {"module.a", "b"}


def test_a_checkpoint_of_openpcdet_is_called_so(tmp_path):
    state = {"backbone_3d.conv_input.0.weight": torch.ones(2)}
    torch.save({"epoch": 80, "it": 1, "model_state": state, "version": "0"}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"checkpoint of OpenPCDet.*mmdet3d's model zoo"):
        read_tensors(tmp_path / "x.pth")


def values(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.tensor([[1.0, -999.0]]),
        "a.bias": torch.ones(2).half(),
        "bn.running_mean": torch.tensor([-3e4]),
        "bn.running_var": torch.tensor([0.0, 9e8]),
        "bn.num_batches_tracked": torch.tensor(12_000),
        "attention.relative_position_index": torch.tensor([[730, 5]]),
        "empty": torch.zeros(0, 3),
    } | changes


def one_wrong(value: float, shape: tuple[int, ...] = (40, 30)) -> torch.Tensor:
    tensor = torch.zeros(shape)
    tensor.view(-1)[-1] = value
    return tensor


def test_tensors_of_all_kinds_that_networks_have_are_read(tmp_path):
    save_file(values(), tmp_path / "x.safetensors")
    found = read_tensors(tmp_path / "x.safetensors")
    assert found.keys() == values().keys()
    assert all(torch.equal(found[name], value) for name, value in values().items())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("a.weight", one_wrong(float("nan")), "holds NaN or infinity"),
        ("a.weight", one_wrong(float("inf")), "holds NaN or infinity"),
        ("a.weight", one_wrong(-float("inf")).bfloat16(), "holds NaN or infinity"),
        ("a.weight", one_wrong(1.0).double() * 1e300, "holds NaN or infinity"),  # in single
        ("bn.running_mean", one_wrong(float("nan")), "holds NaN or infinity"),
        ("bn.running_var", one_wrong(float("inf")), "holds NaN or infinity"),
        ("bn.running_var", one_wrong(-1e-3), "holds negative variances"),
        ("a.weight", one_wrong(1000.0), "holds values of 1000 or more"),
        ("a.bias", torch.full((3,), -1e4), "holds values of 1000 or more"),
        ("a.weight", torch.ones(2, dtype=torch.int64), "is int64, not floating-point"),
        ("a.weight", torch.ones(2, dtype=torch.bool), "is bool, not floating-point"),
        ("a.weight", torch.ones(2, dtype=torch.uint8), "is uint8, not floating-point"),
        ("bn.running_var", torch.ones(2, dtype=torch.int32), "is int32, not floating-point"),
        ("a.weight", torch.ones(2, dtype=torch.complex64), "is complex64, not floating-point"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_tensors_that_no_network_has_learnt_are_refused_by_name(
    name, value, reason, suffix, tmp_path
):
    path, stored = tmp_path / f"x.{suffix}", values(**{name: value})
    save_file(stored, path) if suffix == "safetensors" else torch.save(stored, path)
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert f"{path} is damaged, 1 of 7 tensors are no weights: {name} {reason}" in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(10**13),  # would take 40 TB to look at
        torch.eye(3).to_sparse(),
        torch.zeros(2, device="meta"),
    ],
    ids=["expanded", "sparse", "meta"],
)
def test_tensors_that_are_not_stored_in_full_are_refused(value, tmp_path):
    torch.save({"a": value, "b": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"a isn't stored in full|can't be read"):
        read_tensors(tmp_path / "x.pth")


def test_of_many_damaged_tensors_the_first_are_named(tmp_path):
    bad = {f"layer{index}": torch.tensor([float("nan")]) for index in range(40)}
    torch.save(bad, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"40 of 40 tensors.*layer4 holds.* and 35 more") as e:
        read_tensors(tmp_path / "x.pth")
    assert "layer5 " not in str(e.value)


@pytest.mark.parametrize("content", [b"", b"hi", b"<html>a page in place of the file</html>"])
def test_what_is_no_checkpoint_is_refused_with_the_reason(content, tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="it is damaged, or no checkpoint of torch"):
        read_tensors(path)
