"""What a run needs to go on where it was interrupted, and whether it is still the same run."""

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.optim.swa_utils import AveragedModel

from kd3d_core.config import plain, settings_digest
from kd3d_core.data.frame_inputs import PointSource
from kd3d_core.data.pseudo_cache import PseudoLidarCache, weights_digest
from kd3d_core.depth.config import DepthConfig
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError
from kd3d_core.training import checkpoint_meta
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.same_run import Digests


def digests_of(
    model: DepthConfig | DetectorConfig,
    points: PointSource | None = None,
    teacher: nn.Module | None = None,
) -> Digests:
    """What a run depends on besides its settings; it can only go on with the same.

    Its network's settings, the points that it reads (true LiDAR has no digest: it doesn't change)
    and the teacher's weights.
    """
    found = {"model": settings_digest(replace(model, weights=""))}
    if isinstance(points, PseudoLidarCache):
        found["points"] = points.digest
    if teacher is not None:
        found["teacher"] = weights_digest(teacher)
    return found


def run_state(
    step: int,
    optimizer: Any,
    schedule: Any,
    average: AveragedModel | None,
    accelerator: Accelerator,
) -> dict[str, Any]:
    """All that decides the steps to come, besides the weights; to be called by every process."""
    return {
        "step": step,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "random": gather_object([_random_state(accelerator.device)]),
    }


def restore(
    state: Mapping[str, Any],
    source: Path,
    total: int,
    optimizer: Any,
    schedule: Any,
    average: AveragedModel | None,
    accelerator: Accelerator,
) -> int:
    """Put back what `run_state` gave, and return the step of then.

    `total` is the number of steps of the whole run. `WeightsError` names `source`, the checkpoint,
    if its state is none that a run has written.
    """
    try:
        step = state["step"]
        if type(step) is not int or not 0 <= step <= total:
            raise ValueError(f"its step is {step!r}, and the run has {total} steps")
        for name in ("average", "optimizer"):
            if not _all_finite(state[name]):
                raise ValueError(f"its {name} has numbers that are not finite")
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(_advanced(schedule.state_dict(), state["schedule"]))
        if average is not None:
            average.load_state_dict(state["average"])
        if accelerator.scaler is not None and state["scaler"] is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
        random = state["random"][accelerator.process_index]
        torch.set_rng_state(random["cpu"])
        if accelerator.device.type == "cuda" and random["cuda"] is not None:
            torch.cuda.set_rng_state(random["cuda"], accelerator.device)
        if schedule.last_epoch != step:
            raise ValueError(f"its step is {step} and its learning rate's {schedule.last_epoch}")
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise checkpoint_meta.unreadable(source, error) from None
    return step


def _advanced(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a new schedule, at the step of an old one; all else is as the settings say."""
    places = {name: old[name] for name in ("last_epoch", "_step_count") if name in new}
    for name, place in places.items():
        if type(place) is not int:
            raise ValueError(f"its schedule's {name} is {place!r}")
    parts = {}
    if "_schedulers" in new:
        pairs = zip(new["_schedulers"], old["_schedulers"], strict=True)
        parts["_schedulers"] = [_advanced(*pair) for pair in pairs]
    return {**new, **places, **parts}


def _all_finite(value: Any) -> bool:
    """Whether all tensors in a nest of dicts and lists are finite."""
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, Mapping):
        return all(map(_all_finite, value.values()))
    return all(map(_all_finite, value)) if isinstance(value, list | tuple) else True


def run_meta(
    config: TrainConfig,
    step: int,
    losses: Mapping[str, float],
    metrics: Mapping[str, float],
    frames: int,
    processes: int,
    digests: Digests,
    validated: int | None,
) -> dict[str, Any]:
    """What a reader of a checkpoint wants to know, and `check_same_run` compares."""
    return {
        "step": step,
        "losses": dict(losses),
        "metrics": dict(metrics),
        "revision": _revision(),
        "frames": frames,
        "processes": processes,
        "digests": digests,
        "validated": validated,
        "config": plain(config),
    }


def check_same_step(step: int, out: Path) -> None:
    """Refuse to go on where processes found different checkpoints; to be called by all of them.

    `ConfigError` says that `out` isn't one folder for all.
    """
    steps = gather_object([step])
    if len(set(steps)) > 1:
        raise ConfigError(
            f"{out}: the processes would go on at steps {', '.join(map(str, steps))}: let `out` be "
            "on a disk that all machines share, or copy it to each of them"
        )


def _random_state(device: torch.device) -> dict[str, torch.Tensor | None]:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


@cache
def _revision() -> str:
    """Of the code as the run loaded it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"
