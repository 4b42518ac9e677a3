"""Which parameters learn how fast: groups, learning rates over the run, clipped gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from kd3d_core.training.config import OptimizerConfig
from kd3d_core.training.task import Pace


@dataclass(frozen=True)
class Clipped:
    """Parameters whose gradients are clipped together, to a norm."""

    parameters: list[nn.Parameter]
    norm: float


def parameter_groups(
    model: nn.Module, config: OptimizerConfig, paces: Sequence[Pace] = ()
) -> list[dict[str, Any]]:
    """An optimizer's groups. Matrices decay; biases, norms and other vectors don't."""
    groups = []
    for pace, learnt in _by_pace(model, paces):
        lr = config.lr * (1.0 if pace is None else pace.lr_factor)
        matrices = [parameter for parameter in learnt if parameter.ndim > 1]
        vectors = [parameter for parameter in learnt if parameter.ndim <= 1]
        groups.append({"params": matrices, "lr": lr, "weight_decay": config.weight_decay})
        groups.append({"params": vectors, "lr": lr, "weight_decay": 0.0})
    return groups


def learning_rates(optimizer: torch.optim.Optimizer, config: OptimizerConfig, total: int) -> Any:
    """The schedule of a run of `total` steps; each group's highest rate is the one it has now."""
    if config.schedule == "one_cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, highest, total_steps=total + 1, pct_start=max(config.warmup, 1 / total)
        )
    warmup = max(1, round(config.warmup * total))
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, 1.0, warmup)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total - warmup))
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup])


def clipped_together(
    model: nn.Module, config: OptimizerConfig, paces: Sequence[Pace] = ()
) -> list[Clipped]:
    """What `clip_gradients` clips."""
    return [
        Clipped(learnt, (config.clip if pace is None else pace.clip) or math.inf)
        for pace, learnt in _by_pace(model, paces)
    ]


def clip_gradients(clipped: Sequence[Clipped], accelerator: Accelerator) -> torch.Tensor:
    """Clip the gradients of each, and return the norm that all had together."""
    first, *others = clipped
    norms = [accelerator.clip_grad_norm_(first.parameters, first.norm)]  # unscales those of fp16
    for each in others:
        norms.append(nn.utils.clip_grad_norm_(each.parameters, each.norm))
    return torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))


def _by_pace(
    model: nn.Module, paces: Sequence[Pace]
) -> list[tuple[Pace | None, list[nn.Parameter]]]:
    """The parameters that learn: first those without a pace of their own, then those of each."""
    rest: list[nn.Parameter] = []
    theirs: list[list[nn.Parameter]] = [[] for _ in paces]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        which = next((i for i, pace in enumerate(paces) if name.startswith(pace.prefix)), None)
        (rest if which is None else theirs[which]).append(parameter)
    return [(None, rest), *((pace, part) for pace, part in zip(paces, theirs, strict=True) if part)]
