"""Weights from files into networks: ours (`.safetensors`) and mmdet3d's (`.pth`).

A `.pth` file is a pickle, and a pickle can run any code. Files are read by torch's restricted
unpickler, which builds tensors and containers and calls nothing else. mmengine stores its
training log beside the weights; the names that the log consists of stand for an inert object here,
so such a file can be read and still nothing of it is run. Any other name is refused.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from kd3d_core.detectors.sparse import SparseConv
from kd3d_core.errors import WeightsError, first_line

log = logging.getLogger(__name__)


class _Inert:
    """Stands for an object that isn't needed: takes anything, keeps and does nothing."""

    def __init__(self, *_: Any) -> None: ...
    def __setstate__(self, _: Any) -> None: ...


# What the logs and metadata of mmengine's checkpoints are made of.
_INERT_NAMES = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",  # HistoryBuffer's pickles name its methods
    "numpy.ndarray",
    "numpy.dtype",
    *(
        f"numpy.{core}.multiarray.{function}"
        for core in ("core", "_core")
        for function in ("_reconstruct", "scalar")
    ),
)
# Parts of a checkpoint that aren't the network's: means and deviations of images, which come with
# the config.
_NOT_THE_NETWORK = ("data_preprocessor.",)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a `.safetensors` file, or of a `.pth` without running its pickles.

    Raises:
        WeightsError: the file can't be read, holds no tensors, or objects other than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with torch.serialization.safe_globals([(_Inert, name) for name in _INERT_NAMES]):
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from None
    except Exception as error:
        reason = first_line(error)
        raise WeightsError(f"{path} can't be read as weights: {reason}") from None
    tensors = stored.get("state_dict", stored) if isinstance(stored, Mapping) else None
    if isinstance(tensors, Mapping):
        tensors = {name: v for name, v in tensors.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by name: it is no checkpoint of a model")
    return tensors


def load_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Fill `network`, and refuse tensors that are missing, unknown or of another shape.

    Weights of sparse convolutions may have mmcv's layout or that of spconv 2. What belongs to
    mmdet3d's data preprocessor is left out: our configs say it.

    Args:
        network: one of mmdet3d's, with our ops.
        tensors: by upstream's names, see `read_tensors`.
        source: where they come from, for the message.

    Raises:
        WeightsError: counts the mismatches and names the first; all are logged.
    """
    ignored = [name for name in tensors if name.startswith(_NOT_THE_NETWORK)]
    if ignored:
        log.info("%s: %s are not weights and are left out", source, ", ".join(ignored))
    found = {name: value for name, value in tensors.items() if name not in ignored}
    found = in_mmcv_layout(found, network, source)
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in wanted]
    problems += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    for problem in problems:
        log.error("%s: %s", source, problem)
    if problems:
        raise WeightsError(
            f"{source} doesn't fit the model, {len(problems)} tensors differ: "
            + "; ".join(problems[:5])
            + ("; the log names all" if len(problems) > 5 else "")
        )
    network.load_state_dict(found)


def in_mmcv_layout(
    tensors: Mapping[str, torch.Tensor], network: nn.Module, source: Path
) -> dict[str, torch.Tensor]:
    """`tensors` with sparse convolutions as (kz, ky, kx, in, out), mmcv's and spconv 1's layout.

    spconv 2 has (out, kz, ky, kx, in). A shape tells which it is, unless all five numbers are
    equal; such a weight follows the others of its file, and mmcv's if there are none.

    Raises:
        WeightsError: a file has both.
    """
    wanted = {
        f"{name}.weight": module.weight.shape
        for name, module in network.named_modules()
        if isinstance(module, SparseConv)
    }
    spconv, mmcv = [], []
    for name, shape in wanted.items():
        if name not in tensors or len(set(shape)) == 1:
            continue
        if tensors[name].shape == shape:
            mmcv.append(name)
        elif tensors[name].shape == (shape[4], *shape[:4]):
            spconv.append(name)
    if spconv and mmcv:
        raise WeightsError(
            f"{source} mixes layouts of sparse convolutions: {spconv[0]} is spconv 2's and "
            f"{mmcv[0]} mmcv's; it is a damaged file"
        )
    if not spconv:
        return dict(tensors)
    log.info("%s: sparse convolutions are in the layout of spconv 2", source)
    return {
        name: value.permute(1, 2, 3, 4, 0).contiguous()
        if name in spconv or (name in wanted and len(set(wanted[name])) == 1)
        else value
        for name, value in tensors.items()
    }


def _refusal(path: Path, error: UnpicklingError) -> str:
    """What torch's unpickler stumbled over, from its long explanation, and what to do."""
    text = " ".join(str(error).split())
    if "Unsupported operand" in text:
        return f"{path} can't be read as weights: it is damaged, or no checkpoint of torch"
    named = re.search(r"GLOBAL (\S+)", text)
    reason = f"it names {named[1]}" if named else "it calls what is no part of a tensor"
    return (
        f"{path} holds more than weights, and nothing of it was run: {reason}. If you trust its "
        "source, keep only the weights: torch.save({'state_dict': torch.load(FILE, "
        "weights_only=False)['state_dict']}, NEW)"
    )
