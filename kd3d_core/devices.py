"""Where networks compute, and in which precision: one set of names and one choice for all."""

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Literal

from kd3d_core.errors import ConfigError

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch
    from torch import nn

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""What a user may ask for; `auto` suits the device."""

_BF16_UNITS = ("amx_bf16", "avx512_bf16")

FixedPrecision = Literal["fp32", "bf16", "fp16"]
"""What networks compute in."""


def usable_device(device: str) -> str:
    """The torch device that a user asked for; `auto` is CUDA if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"device {device!r} is unknown: use auto, cpu, cuda or cuda:1") from None
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r}: only cpu and cuda are supported")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device!r}: torch finds {torch.cuda.device_count()} CUDA devices here; "
            "use auto or cpu"
        )
    return device


def fixed_precision(precision: Precision, device: "torch.device") -> FixedPrecision:
    """What `auto` stands for: on CUDA bf16 where the GPU knows it, else fp16; on CPUs fp32.

    A CPU with units for bf16 would be faster in it (docs/performance.md), but clouds and boxes are
    to be the same on all of them. A precision that the CPU has no units for is said to be slow.
    """
    import torch

    if precision != "auto":
        if device.type == "cpu" and not _has_units(precision):
            _warn_of_slow(precision)
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def training_precision(precision: Precision, device: "torch.device") -> FixedPrecision:
    """What a run trains in: as `fixed_precision`, but `auto` is bf16 on CPUs that compute in it.

    A step of `lite` takes 0.6 of the time of fp32 there (docs/results/training_step_cpu.md), and
    20 to 50 times as long on a CPU without units for it.
    """
    if precision == "auto" and device.type == "cpu" and _has_units("bf16"):
        return "bf16"
    return fixed_precision(precision, device)


def _has_units(precision: FixedPrecision) -> bool:
    import torch

    if precision != "bf16":
        return precision == "fp32"
    # torch asks the CPU; older and other ones don't know the keys.
    abilities = torch.cpu.get_capabilities()
    return any(abilities.get(name, False) for name in _BF16_UNITS)


@cache
def _warn_of_slow(precision: FixedPrecision) -> None:
    log.warning(
        "precision is %s, and this CPU has no units for it: fp32 is several times as fast; use "
        "auto", precision,
    )  # fmt: skip


def autocast(precision: FixedPrecision, device: "torch.device") -> AbstractContextManager:
    """A context in which networks compute in a precision."""
    import torch

    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype_of(precision))


def cast_weights(network: "nn.Module", precision: FixedPrecision) -> None:
    """Keep weights that `autocast` would cast in each frame in that precision; answers stay.

    Only for networks that don't learn. Modules that switch autocast off for their own numbers say
    so by an attribute `computes_in_fp32`, and stay as they are, with all that is in them.
    """
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if precision == "fp32" or getattr(network, "computes_in_fp32", False):
        return
    if isinstance(network, nn.Linear | _ConvNd):
        network.to(dtype_of(precision))
    for child in network.children():
        cast_weights(child, precision)


def dtype_of(precision: FixedPrecision) -> "torch.dtype":
    """What products are computed in."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
