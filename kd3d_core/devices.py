"""Where networks compute, and in which precision: one set of names and one choice for all."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from kd3d_core.errors import ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""What a user may ask for; `auto` suits the device."""

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
    """What `auto` stands for: on CUDA bf16 where the GPU knows it, else fp16; on CPUs fp32."""
    import torch

    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(precision: FixedPrecision, device: "torch.device") -> AbstractContextManager:
    """A context in which networks compute in a precision."""
    import torch

    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)
