"""Checkpoints: written whole or not at all, the newest and the best kept."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kd3d_core.errors import DataError, first_line
from kd3d_core.training import checkpoint_meta
from kd3d_core.training.checkpoint_meta import unreadable

_STATE = "state.pt"


def save(folder: Path, model: nn.Module, state: dict[str, Any], meta: dict[str, Any]) -> None:
    """Write a checkpoint folder; one of that name is replaced only when the new one is complete.

    The model's weights become `model.safetensors`; `state` (tensors and plain values) is needed to
    go on, and `meta` is what a reader wants to know, as JSON.
    """
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
        save_file(tensors, new / checkpoint_meta.WEIGHTS)
        torch.save(state, new / _STATE)
        checkpoint_meta.write_meta(new, meta)
        for path in new.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():  # if not, `old` is the only one: it goes when the new one is in place
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError, RuntimeError) as error:  # all three for a full disk
        shutil.rmtree(new, ignore_errors=True)
        raise DataError(f"checkpoint {folder} can't be written: {first_line(error)}") from None


def load(folder: Path, model: nn.Module) -> dict[str, Any]:
    """Fill `model`, and return the state that was saved beside it."""
    try:
        tensors = load_file(folder / checkpoint_meta.WEIGHTS)
        broken = [name for name, value in tensors.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(f"{broken[0]} is not finite")
        model.load_state_dict(tensors)
        state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
    except Exception as error:
        raise unreadable(folder, error) from None
    return state


def validated_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's newest checkpoint that validation would use, by the model's names.

    They are the averaged ones if the run averages, else the model's own.
    """
    try:
        state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        if state["average"] is None:
            return load_file(folder / checkpoint_meta.WEIGHTS)
        average: dict[str, torch.Tensor] = state["average"]
    except Exception as error:
        raise unreadable(folder, error) from None
    prefix = "module."  # beside them it counts how many it has averaged
    return {
        name.removeprefix(prefix): value
        for name, value in average.items()
        if name.startswith(prefix)
    }
