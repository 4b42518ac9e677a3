"""The training loop, from top to bottom: data, step, checks, logs, checkpoints, validation.

accelerate launch --multi_gpu -m kd3d_core.cli.train config/train/kitti_lite.yaml
torchrun --nproc_per_node 4 -m kd3d_core.cli.train config/train/kitti_lite.yaml
"""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
import yaml
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    gather_object,
)
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
from kd3d_core.progress import LINE_EVERY_S
from kd3d_core.training import checkpoint
from kd3d_core.training.config import OptimizerConfig, TrainConfig
from kd3d_core.training.identity import Digests
from kd3d_core.training.norms import share_norms
from kd3d_core.training.order import EpochSampler, epoch_batches
from kd3d_core.training.resume import (
    check_same_run,
    check_same_step,
    plain,
    restore,
    run_meta,
    run_state,
)

log = logging.getLogger(__name__)


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

    @property
    def digests(self) -> Digests:
        """Of what the run depends on besides its settings; see `digests_of`."""

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Metrics of `model` on the validation frames."""

    def export(self, model: nn.Module, out: Path) -> None:
        """Write the weights of `model` so that `CameraDetector` can load them."""

    def is_better(self, score: float, best: float) -> bool:
        """Whether a score beats another."""

    def scalars(self, epoch: int) -> dict[str, float]:
        """What decides an epoch and deserves a curve, such as the weights of losses; by name."""


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Attributes:
        steps: taken in all.
        losses: of the last step, by name; the mean over processes.
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
        ConfigError: the run in `config.out` has other settings.
        TrainingError: a loss or its gradient isn't finite (names the frames), or the loss was 0 for
            a whole epoch; in every process, whichever it happened in.
    """
    began = time.monotonic()
    accelerator = _accelerator(config)
    torch.manual_seed(config.seed + accelerator.process_index)
    out = Path(config.out)
    samples = task.samples
    world = accelerator.num_processes
    steps_per_epoch = len(epoch_batches(len(samples), config.batch_size, 0, 0, 0, world))
    total = steps_per_epoch * config.epochs

    network = task.model
    if config.sync_norms and world > 1:
        network = share_norms(network, accelerator.device)
    optimizer = torch.optim.AdamW(
        _parameter_groups(network, config.optimizer), lr=config.optimizer.lr
    )
    schedule = _schedule(optimizer, config.optimizer, total)
    model, optimizer = accelerator.prepare(network, optimizer)
    raw_model = accelerator.unwrap_model(model)
    average = None
    if config.optimizer.ema:
        multi_avg = get_ema_multi_avg_fn(config.optimizer.ema)
        average = AveragedModel(raw_model, multi_avg_fn=multi_avg, use_buffers=True)

    step, best = 0, None
    losses: dict[str, float] = {}
    metrics: dict[str, float] = {}
    latest = checkpoint.find(out / "latest")
    if latest is not None:
        meta = checkpoint.read_meta(latest)
        check_same_run(latest, meta, config, len(samples), world, task.digests)
        state = checkpoint.load(latest, raw_model)
        step, best = restore(state, optimizer, schedule, average, accelerator)
        losses, metrics = meta["losses"], meta["metrics"]
        log.info("going on at step %d of %d from %s", step, total, latest)
    check_same_step(step, out)  # which waits until all have read
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.yaml").write_text(yaml.safe_dump(plain(config), sort_keys=False))

    def save(name: str, model: nn.Module, state: dict[str, Any]) -> None:
        if accelerator.is_main_process:
            meta = run_meta(config, step, losses, metrics, len(samples), world, task.digests)
            checkpoint.save(out / name, model, state, meta)

    last_line = 0.0
    with _progress(accelerator) as progress, _writer(accelerator, out, step) as writer:
        bar = progress.add_task(config.task, total=total, completed=step, loss="")
        while step < total:
            epoch, done = divmod(step, steps_per_epoch)
            samples.set_epoch(epoch)
            scalars = task.scalars(epoch)
            if scalars:
                text = ", ".join(f"{name} {value:.4g}" for name, value in scalars.items())
                log.info("epoch %d begins with %s", epoch + 1, text)
            if writer is not None:
                for name, value in scalars.items():
                    writer.add_scalar(name, value, step)
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
            for batch in _loaded(loader):
                with accelerator.autocast():
                    named = model(batch.to(accelerator.device))
                loss = sum(named.values())
                values = torch.stack([value.detach().float() for value in named.values()])
                shared = accelerator.reduce(values, "mean")
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(loss)
                norm = accelerator.clip_grad_norm_(
                    model.parameters(), config.optimizer.clip or math.inf
                )
                # The one time that this loop waits for the device; losses may wait in themselves.
                *means, gradient = torch.cat([shared, norm.reshape(1)]).tolist()
                losses = dict(zip(named, means, strict=True))
                if not all(map(math.isfinite, means)):
                    _stop_at(values, losses, batch, step)
                # With fp16 a step that overflows is left out and the loss scaled down.
                if accelerator.scaler is None and not math.isfinite(gradient):
                    _stop_at(norm.reshape(1), {"the gradient": gradient}, batch, step)
                optimizer.step()
                schedule.step()
                if average is not None:
                    average.update_parameters(raw_model)
                step += 1

                largest_loss = max(largest_loss, sum(losses.values()))
                text = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
                progress.update(bar, completed=step, loss=text)
                if progress.disable and time.monotonic() - last_line > LINE_EVERY_S:
                    last_line = time.monotonic()
                    log.info("step %d of %d: %s", step, total, text)
                if writer is not None:
                    for name, value in losses.items():
                        writer.add_scalar(f"loss/{name}", value, step)
                    writer.add_scalar("lr", schedule.get_last_lr()[0], step)
                if step == max_steps:
                    return Summary(step, losses, metrics, time.monotonic() - began)
                if step % config.checkpoint_every == 0 and step % steps_per_epoch:
                    state = run_state(step, best, optimizer, schedule, average, accelerator)
                    save("latest", raw_model, state)
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
                    save("best", evaluated, {})
                    if accelerator.is_main_process:
                        task.export(evaluated, out)
            state = run_state(step, best, optimizer, schedule, average, accelerator)
            save("latest", raw_model, state)
    return Summary(step, losses, metrics, time.monotonic() - began)


def collated(samples: Any, batch_size: int) -> Iterator[Batch]:
    """All samples once, in order, in batches."""
    for start in range(0, len(samples), batch_size):
        indices = range(start, min(start + batch_size, len(samples)))
        yield collate([samples[index] for index in indices])


def _loaded(loader: DataLoader) -> Iterator[Batch]:
    """A loader's batches; an error of the process that loads them is what it says, in its line."""
    try:
        yield from loader
    except Kd3dError as error:
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from None


def processes() -> PartialState:
    """This process, with its device, among those that train together; finds them when asked."""
    return PartialState(cpu=_on_cpu())


def _on_cpu() -> bool:
    # Without being told, accelerate lets the processes of `torchrun` on a machine without a GPU
    # each train alone.
    return not torch.accelerator.is_available()


def _accelerator(config: TrainConfig) -> Accelerator:
    precision = {"fp32": "no", "auto": "no"}.get(config.precision, config.precision)
    if config.precision == "auto" and torch.cuda.is_available():
        precision = "bf16"
    return Accelerator(
        cpu=_on_cpu(),
        mixed_precision=precision,
        dataloader_config=DataLoaderConfiguration(),
        # Costs a walk through the graph, so only where layers rest in some of the steps.
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                find_unused_parameters=config.distill is not None and config.distill.parts_rest
            )
        ],
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


def _stop_at(
    values: torch.Tensor, losses: Mapping[str, float], batch: Batch, step: int
) -> NoReturn:
    """Name the frames of whichever process has a loss that isn't finite, in every process."""
    frames = gather_object([] if bool(values.isfinite().all()) else list(batch.names))
    wrong = ", ".join(name for name, value in losses.items() if not math.isfinite(value))
    raise TrainingError(
        f"step {step}: {wrong} is not finite for frames {', '.join(frames)}: "
        "look at those frames, lower lr, or train in fp32"
    )


def _writer(
    accelerator: Accelerator, out: Path, step: int
) -> AbstractContextManager[SummaryWriter | None]:
    if not accelerator.is_main_process:
        return nullcontext()
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


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
