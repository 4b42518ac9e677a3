"""Reads files of tensors: `.safetensors`, and torch's `.pth` and `.bin` without running a pickle.

A `.pth` file is a pickle, and a pickle can run any code. Files are read by torch's restricted
unpickler, which builds tensors and containers and calls nothing else. mmengine stores its
training log beside the weights; the names that the log consists of stand for an inert object here,
so such a file can be read and still nothing of it is run. Any other name is refused.

What was read is checked before a network sees it: damaged weights would give no error, but depth
and boxes that are wrong.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from kd3d_core.errors import WeightsError, first_line, listed, shown


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
# Counters and indices: the only tensors of published networks that aren't floating-point.
_INTEGERS = ("num_batches_tracked", "relative_position_index", "position_ids")
_LARGEST = 1e3
"""No learnt number is as large: the largest is 13 in EfficientNet-Lite0 and 5 in `weights/demo`."""
# May be larger: they have the units of what flows through the network, or their square.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_PREFIX = "module."  # of networks that were saved out of torch's parallel wrappers


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a file, without the prefix `module.` if all have it.

    Raises:
        WeightsError: the file can't be read, holds no tensors, objects other than tensors, or
            numbers that no network has learnt: NaN, infinity, integers, 1000 or more.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            stored: Any = load_file(path)
        else:
            _check_packing(path)
            with torch.serialization.safe_globals([(_Inert, name) for name in _INERT_NAMES]):
                stored = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, LookupError, EOFError) as error:
        raise WeightsError(_refusal(path, error)) from None
    except Exception as error:
        raise WeightsError(f"{path} can't be read as weights: {first_line(error)}") from None
    tensors = _named_tensors(stored, path)
    while all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    faults = [
        f"{name} {fault}" for name, value in tensors.items() if (fault := _fault(name, value))
    ]
    if faults:
        raise WeightsError(
            f"{path} is damaged, {len(faults)} of {len(tensors)} tensors are no weights: "
            f"{listed(faults, 5)}; get or export it again"
        )
    return tensors


def _check_packing(path: Path) -> None:
    """Refuse a zip file that unpacks to more than it has: torch compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(
                f"it would unpack to {unpacked / 1e6:.0f} MB; torch compresses nothing"
            )


def _named_tensors(stored: Any, path: Path) -> dict[str, torch.Tensor]:
    keys: list[str] = []
    if isinstance(stored, Mapping):
        if "model_state" in stored and "state_dict" not in stored:
            raise WeightsError(
                f"{path} is a checkpoint of OpenPCDet (it has model_state), whose networks aren't "
                "those of mmdet3d: take weights of mmdet3d's model zoo, or of kd3d-train"
            )
        inner = stored.get("state_dict", stored)
        keys = sorted(str(key) for key in stored)
        if isinstance(inner, Mapping):
            tensors = {
                name: value
                for name, value in inner.items()
                if isinstance(name, str) and isinstance(value, torch.Tensor)
            }
            if tensors:
                return tensors
    holds = f": it holds {listed(keys, 5)}" if keys else ""
    raise WeightsError(f"{path} has no tensors by name, it is no checkpoint of a model{holds}")


def _fault(name: str, value: torch.Tensor) -> str:
    """Why a tensor can't be one of a trained network; empty if it can."""
    stored = value.layout == torch.strided and not value.is_meta
    if not stored or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "isn't stored in full"
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        return "" if name.endswith(_INTEGERS) else f"is {kind}, not floating-point"
    wide = value.detach().float()
    if not wide.isfinite().all():
        return "holds NaN or infinity"
    if name.endswith("running_var"):
        return "holds negative variances" if (wide < 0).any() else ""
    absurd = not name.endswith(_STATISTICS) and (wide.abs() >= _LARGEST).any()
    return f"holds values of {_LARGEST:g} or more" if absurd else ""


def _refusal(path: Path, error: Exception) -> str:
    """What torch's unpickler stumbled over, from its long explanation, and what to do."""
    text = " ".join(str(error).split())
    if "Unsupported operand" in text or not isinstance(error, UnpicklingError):
        return f"{path} can't be read as weights: it is damaged, or no checkpoint of torch"
    named = re.search(r"GLOBAL (\S+)", text)
    reason = f"it names {shown(named[1])}" if named else "it calls what is no part of a tensor"
    return (
        f"{path} holds more than weights, and nothing of it was run: {reason}. If you trust its "
        "source, keep only the weights: torch.save({'state_dict': torch.load(FILE, "
        "weights_only=False)['state_dict']}, NEW)"
    )
