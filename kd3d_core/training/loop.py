"""The training loop, from top to bottom: data, step, checks, logs, checkpoints, validation.

accelerate launch --multi_gpu -m kd3d_core.cli.train config/train/kitti_lite.yaml
torchrun --nproc_per_node 4 -m kd3d_core.cli.train config/train/kitti_lite.yaml
"""

import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, gather_object
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from kd3d_core.config import save_settings
from kd3d_core.data.batch import Batch, collate
from kd3d_core.data.mixed_samples import MixedSamples
from kd3d_core.data.samples import FrameSamples
from kd3d_core.devices import training_precision
from kd3d_core.errors import Kd3dError
from kd3d_core.progress import LINE_EVERY_S
from kd3d_core.threads import use_threads
from kd3d_core.training import checkpoint, checkpoint_meta
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.interrupt import noticed_interrupts
from kd3d_core.training.optimizer import (
    clip_gradients,
    clipped_together,
    learning_rates,
    parameter_groups,
)
from kd3d_core.training.processes import on_cpu, processes
from kd3d_core.training.resume import check_same_step, restore, run_meta, run_state
from kd3d_core.training.same_run import check_same_run
from kd3d_core.training.sampler import epoch_batches, mixed_batches
from kd3d_core.training.sync_norms import share_norms
from kd3d_core.training.task import Task, rank, reason

log = logging.getLogger(__name__)


class TrainingError(Kd3dError):
    """A run can't go on: its loss isn't finite, or it learns nothing."""


@dataclass(frozen=True)
class Summary:
    """How a run ended, after which steps and seconds (of this process) in all.

    Attributes:
        losses: losses of the last step, by name; the mean over processes.
        metrics: metrics of the last validation.
        exported: which step's weights were exported, and why; empty if none.
    """

    steps: int
    losses: dict[str, float]
    metrics: dict[str, float]
    seconds: float
    exported: str = ""


def train(  # noqa: PLR0912, PLR0915 - one visible loop
    config: TrainConfig, task: Task, max_steps: int | None = None
) -> Summary:
    """Train `task` as `config` says; go on where a run in `config.out` was interrupted.

    With `max_steps`, it stops there, without validation or checkpoint. Ctrl-C and SIGTERM end it
    after the step that is being taken, with a checkpoint, by `KeyboardInterrupt`.

    Raises:
        ConfigError: the run in `config.out` has other settings.
        TrainingError: a loss or its gradient isn't finite (names the frames), or the loss was 0 for
            a whole epoch; in every process, whichever it happened in.
        DataError: the run's folder can't be written.
    """
    began = time.monotonic()
    use_threads(config.threads)
    accelerator = _accelerator(config, task)
    torch.manual_seed(config.seed + accelerator.process_index)
    out = Path(config.out)
    samples = task.samples
    world = accelerator.num_processes
    steps_per_epoch = len(_batches(samples, config, 0, 0, world))
    total = steps_per_epoch * config.epochs

    network = task.model
    if config.sync_norms and world > 1:
        network = share_norms(network, accelerator.device)
    optimizer = torch.optim.AdamW(parameter_groups(network, config.optimizer, task.paces))
    schedule = learning_rates(optimizer, config.optimizer, total)
    model, optimizer = accelerator.prepare(network, optimizer)
    raw_model = accelerator.unwrap_model(model)
    clipped = clipped_together(raw_model, config.optimizer, task.paces)
    average = None
    if config.optimizer.ema:
        multi_avg = get_ema_multi_avg_fn(config.optimizer.ema)
        average = AveragedModel(raw_model, multi_avg_fn=multi_avg, use_buffers=True)

    step, validated = 0, 0  # steps taken, and those at the last validation
    best: dict[str, Any] | None = None
    losses: dict[str, float] = {}
    metrics: dict[str, float] = {}
    latest = checkpoint_meta.find(out / "latest")
    if latest is not None:
        meta = checkpoint_meta.read_meta(latest)
        check_same_run(latest, meta, config, len(samples), world, task.digests)
        state = checkpoint.load(latest, raw_model)
        step = restore(state, latest, total, optimizer, schedule, average, accelerator)
        losses, metrics = meta["losses"], meta["metrics"]
        validated = meta.get("validated", step)
        found = checkpoint_meta.find(out / "best")
        best = checkpoint_meta.read_meta(found) if found is not None else None
        word = "finished already" if step == total else "going on"
        log.info("%s at step %d of %d from %s", word, step, total, latest)
    check_same_step(step, out)  # which waits until all have read
    if accelerator.is_main_process:
        if latest is None:  # that of another run would count as this run's
            shutil.rmtree(out / "best", ignore_errors=True)
            shutil.rmtree(out / "best.old", ignore_errors=True)
        save_settings(out / "config.yaml", config)

    def meta_now() -> dict[str, Any]:
        return run_meta(config, step, losses, metrics, len(samples), world, task.digests, validated)

    def save(name: str, model: nn.Module, state: dict[str, Any]) -> None:
        if accelerator.is_main_process:
            checkpoint.save(out / name, model, state, meta_now())

    last_line = 0.0
    with (
        _progress(accelerator) as progress,
        _writer(accelerator, out, step) as writer,
        noticed_interrupts(alone=world == 1) as interrupted,
    ):
        bar = progress.add_task(config.task, total=total, completed=step, loss="")

        def record(values: Mapping[str, float], prefix: str = "") -> str:
            if writer is not None:
                for name, value in values.items():
                    writer.add_scalar(prefix + name, value, step)
            return ", ".join(f"{name} {value:.4g}" for name, value in values.items())

        while True:
            epoch, done = divmod(step, steps_per_epoch)
            is_due = epoch % config.validate_every == 0 or step == total
            if done == 0 and is_due and step != validated:
                evaluated = average.module if average is not None else raw_model
                evaluated.eval()
                metrics, validated = task.validate(evaluated, accelerator.device), step
                log.info("epoch %d: %s", epoch, record(metrics, "val/") or "no metric")
                # Equal ones go to the newer, which has learnt for longer.
                if best is None or rank(task.scores, metrics) >= rank(task.scores, best["metrics"]):
                    best = meta_now()
                    save("best", evaluated, {})
                    if accelerator.is_main_process:
                        task.export(evaluated, out)
                if accelerator.is_main_process:
                    newest = checkpoint_meta.find(out / "latest")
                    assert newest is not None, "the epoch's checkpoint was written before"
                    checkpoint_meta.write_meta(newest, meta_now())
            if step == total:
                break
            samples.set_epoch(epoch)
            if text := record(task.scalars(epoch)):
                log.info("epoch %d begins with %s", epoch + 1, text)
            batches = _batches(samples, config, epoch, accelerator.process_index, world)
            loader = DataLoader(
                samples,
                batch_sampler=batches[done:],
                num_workers=config.workers,
                collate_fn=collate,
                pin_memory=accelerator.device.type == "cuda",
                # Of its own, so that starting a loader doesn't move the run's random state.
                generator=torch.Generator().manual_seed(config.seed),
            )
            model.train()
            largest_loss = 0.0
            for batch in _loaded(loader):
                moved = replace(batch.to(accelerator.device), progress=step / total)
                with accelerator.autocast():
                    named = model(moved)
                loss = sum(named.values())
                values = torch.stack([value.detach().float() for value in named.values()])
                shared = accelerator.reduce(values, "mean")
                optimizer.zero_grad(set_to_none=True)
                accelerator.backward(loss)
                norm = clip_gradients(clipped, accelerator)
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
                record(losses, "loss/")
                record({"lr": schedule.get_last_lr()[0]})
                if step == max_steps:
                    return Summary(step, losses, metrics, time.monotonic() - began)
                is_asked = interrupted()
                if is_asked or (step % config.checkpoint_every == 0 and step % steps_per_epoch):
                    state = run_state(step, optimizer, schedule, average, accelerator)
                    save("latest", raw_model, state)
                if is_asked:
                    raise KeyboardInterrupt
            if largest_loss == 0 and done == 0:
                raise TrainingError(
                    f"the loss was 0 in all {len(batches)} steps of epoch {epoch}: the frames have "
                    "no annotation that the model can learn from (check label_2 and `classes`)"
                )
            state = run_state(step, optimizer, schedule, average, accelerator)
            save("latest", raw_model, state)  # before validation, which may fail
    exported = ""
    if best is not None:
        exported = f"step {best['step']} of {total}: {reason(task.scores, best['metrics'])}"
    return Summary(step, losses, metrics, time.monotonic() - began, exported)


def _batches(
    samples: FrameSamples | MixedSamples, config: TrainConfig, epoch: int, process: int, world: int
) -> list[list[int]]:
    """The batches of one process in an epoch, as `samples` and the settings want them."""
    if isinstance(samples, MixedSamples) and samples.per_batch is not None:
        return mixed_batches(samples.counts, samples.per_batch, config.seed, epoch, process, world)
    return epoch_batches(len(samples), config.batch_size, config.seed, epoch, process, world)


def _loaded(loader: DataLoader) -> Iterator[Batch]:
    """A loader's batches; an error of the process that loads them is what it says, in its line."""
    try:
        yield from loader
    except Kd3dError as error:
        raise type(error)(str(error).strip().rpartition(f"{type(error).__name__}: ")[2]) from None


def _accelerator(config: TrainConfig, task: Task) -> Accelerator:
    precision = training_precision(config.precision, processes().device)
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision="no" if precision == "fp32" else precision,
        # Costs a walk through the graph, so only where it is needed.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=task.has_idle_parameters)
        ],
    )


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
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
        disable=not (accelerator.is_main_process and console.is_terminal),
    )
