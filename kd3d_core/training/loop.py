"""The training loop, from top to bottom: data, step, checks, logs, checkpoints, validation.

accelerate launch --multi_gpu -m kd3d_core.cli.train config/train/lite.yaml
torchrun --nproc_per_node 4 -m kd3d_core.cli.train config/train/lite.yaml
"""

import json
import logging
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from kd3d_core.data.samples import Batch, collate
from kd3d_core.errors import Kd3dError
from kd3d_core.training import checkpoint
from kd3d_core.training.config import OptimizerConfig, TrainConfig
from kd3d_core.training.order import EpochSampler, epoch_batches

log = logging.getLogger(__name__)

_LOG_EVERY_S = 30.0
"""Where no progress bar can be drawn, a line instead."""


class TrainingError(Kd3dError):
    """A run can't go on: its loss isn't finite, or it learns nothing."""


class Task(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module:
        """Its forward takes a `Batch` and returns named losses, whose sum is minimised."""

    @property
    def samples(self) -> Any:
        """The frames to train on: a map-style dataset of `Sample` with `set_epoch`."""

    @property
    def score_name(self) -> str:
        """Name of the validation metric that decides which checkpoint is best."""

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Metrics of `model` on the validation frames."""

    def export(self, model: nn.Module, out: Path) -> None:
        """Write the weights of `model` so that `CameraDetector` can load them."""

    def is_better(self, score: float, best: float) -> bool:
        """Whether a score beats another."""


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        steps: taken in all.
        losses: of the last step, by name.
        metrics: of the last validation.
        seconds: of this process's part of the run.
    """

    steps: int
    losses: dict[str, float]
    metrics: dict[str, float]
    seconds: float


def train(  # noqa: PLR0912, PLR0915 - one visible loop
    config: TrainConfig, task: Task, max_steps: int | None = None
) -> Summary:
    """Train `task` as `config` says; go on where a run in `config.out` was interrupted.

    Args:
        config: of the run.
        task: what to train.
        max_steps: stop there, without validation or checkpoint.

    Raises:
        TrainingError: a loss isn't finite (names the frames), or was 0 for a whole epoch.
    """
    began = time.monotonic()
    accelerator = _accelerator(config)
    torch.manual_seed(config.seed + accelerator.process_index)
    out = Path(config.out)
    samples = task.samples
    world = accelerator.num_processes
    steps_per_epoch = len(epoch_batches(len(samples), config.batch_size, 0, 0, 0, world))
    total = steps_per_epoch * config.epochs

    optimizer = torch.optim.AdamW(
        _parameter_groups(task.model, config.optimizer), lr=config.optimizer.lr
    )
    schedule = _schedule(optimizer, config.optimizer, total)
    model, optimizer = accelerator.prepare(task.model, optimizer)
    raw_model = accelerator.unwrap_model(model)
    average = None
    if config.optimizer.ema:
        multi_avg = get_ema_multi_avg_fn(config.optimizer.ema)
        average = AveragedModel(raw_model, multi_avg_fn=multi_avg, use_buffers=True)

    step, best = 0, None
    latest = checkpoint.find(out / "latest")
    if latest is not None:
        state = checkpoint.load(latest, raw_model)
        step, best = _restore(state, config, optimizer, schedule, average, accelerator)
        log.info("going on at step %d of %d from %s", step, total, latest)
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.yaml").write_text(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))
    writer = None
    if accelerator.is_main_process:
        writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def save(name: str, metrics: Mapping[str, float]) -> None:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            state = _state(step, best, optimizer, schedule, average, accelerator)
            checkpoint.save(out / name, raw_model, state, _meta(config, step, metrics))

    losses: dict[str, float] = {}
    metrics: dict[str, float] = {}
    last_line = 0.0
    with _progress(accelerator) as progress:
        bar = progress.add_task(config.task, total=total, completed=step, loss="")
        while step < total:
            epoch, done = divmod(step, steps_per_epoch)
            samples.set_epoch(epoch)
            batches = epoch_batches(
                len(samples), config.batch_size, config.seed, epoch,
                accelerator.process_index, world,
            )  # fmt: skip
            loader = DataLoader(
                samples,
                batch_sampler=EpochSampler(batches[done:]),
                num_workers=config.workers,
                collate_fn=collate,
                pin_memory=accelerator.device.type == "cuda",
                # Of its own, so that starting a loader doesn't move the run's random state.
                generator=torch.Generator().manual_seed(config.seed),
            )
            model.train()
            largest_loss = 0.0
            for batch in loader:
                with accelerator.autocast():
                    named = model(batch.to(accelerator.device))
                loss = sum(named.values())
                values = torch.stack([value.detach().float() for value in named.values()])
                losses = dict(zip(named, values.tolist(), strict=True))
                _check_finite(losses, batch, step)
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(loss)
                if config.optimizer.clip:
                    accelerator.clip_grad_norm_(model.parameters(), config.optimizer.clip)
                optimizer.step()
                schedule.step()
                if average is not None:
                    average.update_parameters(raw_model)
                step += 1

                largest_loss = max(largest_loss, sum(losses.values()))
                text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                progress.update(bar, completed=step, loss=text)
                if progress.disable and time.monotonic() - last_line > _LOG_EVERY_S:
                    last_line = time.monotonic()
                    log.info("step %d of %d: %s", step, total, text)
                if writer is not None:
                    for name, value in losses.items():
                        writer.add_scalar(f"loss/{name}", value, step)
                    writer.add_scalar("lr", schedule.get_last_lr()[0], step)
                if step == max_steps:
                    return Summary(step, losses, metrics, time.monotonic() - began)
                if step % config.checkpoint_every == 0 and step % steps_per_epoch:
                    save("latest", metrics)
            if largest_loss == 0 and done == 0:
                raise TrainingError(
                    f"the loss was 0 in all {len(batches)} steps of epoch {epoch}: the frames have "
                    "no annotation that the model can learn from (check label_2 and `classes`)"
                )
            if (epoch + 1) % config.validate_every == 0 or step == total:
                evaluated = average.module if average is not None else raw_model
                evaluated.eval()
                metrics = task.validate(evaluated, accelerator.device)
                if writer is not None:
                    for name, value in metrics.items():
                        writer.add_scalar(f"val/{name}", value, step)
                score = metrics[task.score_name]
                text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
                log.info("epoch %d: %s", epoch + 1, text)
                if best is None or task.is_better(score, best):
                    best = score
                    if accelerator.is_main_process:
                        meta = _meta(config, step, metrics)
                        checkpoint.save(out / "best", evaluated, {}, meta)
                        task.export(evaluated, out)
            save("latest", metrics)
    if writer is not None:
        writer.close()
    return Summary(step, losses, metrics, time.monotonic() - began)


def collated(samples: Any, batch_size: int) -> Iterator[Batch]:
    """All samples once, in order, in batches."""
    for start in range(0, len(samples), batch_size):
        indices = range(start, min(start + batch_size, len(samples)))
        yield collate([samples[index] for index in indices])


def training_device() -> torch.device:
    """Where this process trains."""
    return PartialState().device


def _accelerator(config: TrainConfig) -> Accelerator:
    precision = {"fp32": "no", "auto": "no"}.get(config.precision, config.precision)
    if config.precision == "auto" and torch.cuda.is_available():
        precision = "bf16"
    return Accelerator(
        mixed_precision=precision,
        dataloader_config=DataLoaderConfiguration(),
    )


def _parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and other vectors don't."""
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, total: int) -> Any:
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.lr, total_steps=total + 1, pct_start=max(config.warmup, 1 / total)
        )
    warmup = max(1, round(config.warmup * total))
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-2, 1.0, warmup)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, total - warmup))
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup])


def _check_finite(losses: Mapping[str, float], batch: Batch, step: int) -> None:
    wrong = {name: value for name, value in losses.items() if not abs(value) < float("inf")}
    if wrong:
        raise TrainingError(
            f"step {step}: the loss is not finite ({wrong}) for frames {', '.join(batch.names)}: "
            "look at those frames, lower lr, or train in fp32"
        )


def _state(step, best, optimizer, schedule, average, accelerator) -> dict[str, Any]:
    return {
        "step": step,
        "best": best,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore(state, config, optimizer, schedule, average, accelerator) -> tuple[int, float | None]:
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if average is not None and state["average"] is not None:
        average.load_state_dict(state["average"])
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"]:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return state["step"], state["best"]


def _meta(config: TrainConfig, step: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "step": step,
        "metrics": dict(metrics),
        "revision": _revision(),
        "config": _plain(asdict(config)),
    }


def _revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _plain(values: Any) -> Any:
    """Lists for tuples, as YAML and JSON have it."""
    return json.loads(json.dumps(values))


def _progress(accelerator: Accelerator) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
        disable=not (accelerator.is_main_process and console.is_terminal),
    )
