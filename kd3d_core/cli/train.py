"""`kd3d-train`: trains what a configuration describes."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.app import run

if TYPE_CHECKING:
    from kd3d_core.training.stages import Stage

log = logging.getLogger(__name__)

_STAGES = """\
stages:
  --stages.NAME.*       Several runs, one after another: under each name, what it has other than the
                        rest of the file says. A stage runs in the folder of its name in out, and a
                        model of that name is the one that it leaves there."""
_OWN_OPTIONS = {"set", "dry-run", "help", "config", "print_config", "settings"}


def train(configuration: Path, *, set: list[str] = [], dry_run: bool = False) -> None:  # noqa: B006
    """Train, or go on with a run that was interrupted.

    Args:
        configuration: YAML file, for example config/train/kitti_lite.yaml. If it has stages, they
            run one after another, and an interrupted one goes on.
        set: values that replace those of the file, as key=value; --key value does the same.
        dry_run: load models and data, take one step, and write nothing.
    """
    import os
    from contextlib import ExitStack
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from kd3d_core.training.precheck import check_stages
    from kd3d_core.training.stages import load_stages

    stages = load_stages(configuration, set)
    is_main = int(os.environ.get("RANK", "0")) == 0
    with ExitStack() as stack:
        if dry_run:
            folder = stack.enter_context(TemporaryDirectory())
            # No process to load frames: they may need the depth network, and the GPU it is on.
            runs = [
                replace(stage.ahead, workers=0, out=f"{folder}/{stage.name}") for stage in stages
            ]
            stages = [replace(stage, config=run) for stage, run in zip(stages, runs, strict=True)]
        elif is_main:
            for stage in stages:
                stack.enter_context(_held(Path(stage.config.out)))
        check_stages(stages)
        from kd3d_core.training.processes import leave_group

        for number, stage in enumerate(stages, 1):
            _train(stage, f"stage {number} of {len(stages)}", is_main, dry_run)
        leave_group()


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep other runs from a run's folder; one that was refused leaves no trace of it."""
    import fcntl

    from kd3d_core.files import locked

    refusal = f"{out} is in use by another kd3d-train: wait for it, or give another `out`"
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    # Not flock, which the processes that load frames would hold on to for a while after a kill.
    with locked(out, fcntl.lockf, refusal):
        try:
            yield
        finally:
            if [path.name for path in out.iterdir()] == ["lock"]:
                (out / "lock").unlink()
                for folder in new:
                    if not any(folder.iterdir()):
                        folder.rmdir()


def _train(stage: "Stage", place: str, is_main: bool, dry_run: bool) -> None:
    wanted = stage.config
    if stage.name:
        log.info("%s, %s: %s", place, stage.name, wanted.out)

    from rich.console import Console
    from rich.table import Table

    from kd3d_core.training import checkpoint_meta
    from kd3d_core.training.loop import train as run_training
    from kd3d_core.training.processes import processes
    from kd3d_core.training.tasks import make_task

    if not is_main:
        logging.getLogger().setLevel(logging.ERROR)
    task = make_task(wanted, keep=not dry_run)
    try:
        summary = run_training(wanted, task, max_steps=1 if dry_run else None)
    except KeyboardInterrupt:
        if is_main and (latest := checkpoint_meta.find(Path(wanted.out) / "latest")) is not None:
            step = checkpoint_meta.read_meta(latest)["step"]
            log.info("the same command goes on after step %d, from %s", step, latest)
        raise
    processes().wait_for_everyone()  # until what the next stage reads is there
    if not is_main:
        return
    if dry_run:
        losses = ", ".join(f"{name} {value:.4g}" for name, value in summary.losses.items())
        print(f"{len(task.samples)} frames; one step gives {losses}; nothing was written")
        return
    table = Table("", "", title=f"{wanted.out}: {summary.steps} steps")
    for name, value in {**summary.losses, **summary.metrics}.items():
        table.add_row(name, f"{value:.4g}")
    table.add_row("minutes", f"{summary.seconds / 60:.1f}")
    Console().print(table)
    if summary.exported:
        print(f"exported: {summary.exported}")
        print(f"try it: kd3d-demo --model {Path(wanted.out) / 'model.yaml'}")


def replaced_settings(words: Sequence[str]) -> list[str]:
    """`--key value` and `--key=value` rewritten as `--set key=value`, our own options kept.

    Keys are those of the configuration, so they can't be known before it is read.
    """
    kept, settings = [], []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, separator, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name in _OWN_OPTIONS:
            kept.append(word)
        elif separator:
            settings.append(f"{name}={value}")
        elif queue and not queue[0].startswith("--"):
            settings.append(f"{name}={queue.pop(0)}")
        else:
            raise SystemExit(f"kd3d-train: {word} needs a value, as in --epochs 40")
    return [*kept, "--set", *settings] if settings else kept


def _settings() -> str:
    """What the YAML file may say, and the one that its `model` may name."""
    from kd3d_core.cli.settings import settings_text
    from kd3d_core.models.config import PseudoLidarModelConfig
    from kd3d_core.training.config import TrainConfig

    return (
        f"{settings_text(TrainConfig)}\n\n{_STAGES}\n\nIn the file that `model` names, no options\n"
        f"--------------------------------------------\n\n{settings_text(PseudoLidarModelConfig)}"
    )


def main() -> int:
    """Entry point."""
    return run(
        train,
        prog="kd3d-train",
        description=(
            "Train a depth network or a detector, as a YAML file describes. Interrupted runs go "
            "on when the same command is given again."
        ),
        args=replaced_settings(sys.argv[1:]),
        examples=[
            "kd3d-train config/train/kitti_lite.yaml --dry-run",
            "kd3d-train config/train/kitti_lite.yaml --epochs 40 --optimizer.lr 5e-4",
            "torchrun --nproc_per_node 4 -m kd3d_core.cli.train config/train/kitti_lite.yaml",
        ],
        settings=_settings,
    )


if __name__ == "__main__":
    sys.exit(main())
