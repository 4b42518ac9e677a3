"""`kd3d-train`: trains what a configuration describes."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.app import run

if TYPE_CHECKING:
    from kd3d_core.training.config import TrainConfig

_OWN_OPTIONS = {"set", "dry-run", "help", "config", "print_config", "settings"}


def train(configuration: Path, *, set: list[str] = [], dry_run: bool = False) -> None:  # noqa: B006
    """Train, or go on with a run that was interrupted.

    Args:
        configuration: YAML file, for example config/train/kitti_lite.yaml.
        set: values that replace those of the file, as key=value; --key value does the same.
        dry_run: load models and data, take one step, and write nothing.
    """
    import fcntl
    import os
    from contextlib import nullcontext
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from kd3d_core.files import locked
    from kd3d_core.training.config import load_train_config

    wanted = load_train_config(configuration, set)
    is_main = int(os.environ.get("RANK", "0")) == 0
    if dry_run:
        with TemporaryDirectory() as folder:
            # No process to load frames: they may need the depth network, and the GPU it is on.
            _train(replace(wanted, workers=0, out=folder), is_main, dry_run)
        return
    refusal = f"{wanted.out} is in use by another kd3d-train: wait for it, or give another `out`"
    # Not flock, which the processes that load frames would hold on to for a while after a kill.
    with locked(Path(wanted.out), fcntl.lockf, refusal) if is_main else nullcontext():
        _train(wanted, is_main, dry_run)


def _train(wanted: "TrainConfig", is_main: bool, dry_run: bool) -> None:
    import logging

    from kd3d_core.training.precheck import check_run

    check_run(wanted)

    from rich.console import Console
    from rich.table import Table

    from kd3d_core.training.loop import train as run_training
    from kd3d_core.training.tasks import make_task

    if not is_main:
        logging.getLogger().setLevel(logging.ERROR)
    task = make_task(wanted, keep=not dry_run)
    summary = run_training(wanted, task, max_steps=1 if dry_run else None)
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
        f"{settings_text(TrainConfig)}\n\nIn the file that `model` names, no options\n"
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
