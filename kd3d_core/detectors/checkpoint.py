"""Fills networks with weights, ours or mmdet3d's; `weights.tensors` reads their files."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from kd3d_core.detectors.sparse import SparseConv
from kd3d_core.errors import WeightsError, listed

log = logging.getLogger(__name__)

# Parts of a checkpoint that aren't the network's: means and deviations of images, which come with
# the config.
_NOT_THE_NETWORK = ("data_preprocessor.",)


def load_tensors(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Fill `network`, and refuse tensors that are missing, unknown or of another shape.

    Weights of sparse convolutions may have mmcv's layout or that of spconv 2. What belongs to
    mmdet3d's data preprocessor is left out: our configs say it.

    Args:
        network: one of mmdet3d's, with our ops.
        tensors: by upstream's names, see `read_tensors`.
        source: where they come from, for the message.

    Raises:
        WeightsError: counts the mismatches and names the first.
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
    if problems:
        raise WeightsError(
            f"{source} doesn't fit the model, {len(problems)} tensors differ: {listed(problems, 5)}"
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
