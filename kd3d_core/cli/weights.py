"""`kd3d-weights`: list, download, check and pack the weights that model configurations name."""

import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from kd3d_core.cli.app import run
from kd3d_core.cli.table import print_table
from kd3d_core.weights.catalogue import Weights, load_catalogue, lookup
from kd3d_core.weights.store import FileState, folder_of, look, published_size, verify
from kd3d_core.weights.store import get as get_weights


def list_() -> None:
    """Show the published weights, their state here, origin and licence."""
    catalogue = load_catalogue()
    rows = [("name", "state", "size", "commercial use")]
    for name, weights in catalogue.items():
        states = look(name)
        here = sum(file.size for file in states if file.state != "missing")
        size = _megabytes(here or published_size(weights))
        rows.append((name, _overall(states), size, _allowed(weights)))
    print_table(rows)
    for name, weights in catalogue.items():
        print(f"\n{name}: {weights.description}")
        _print_terms(weights)
        if weights.note:
            print(f"  note: {weights.note}")


def get(names: list[str]) -> None:
    """Download weights; goes on where an earlier download broke off.

    Args:
        names: as `kd3d-weights list` shows them.
    """
    entries = {name: lookup(name) for name in names}
    console = Console(stderr=True)
    for name, weights in entries.items():
        print(name)
        _print_terms(weights)
        progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        with progress:
            tasks = {file.name: progress.add_task(file.name, total=None) for file in weights.files}
            get_weights(name, partial(_advance, progress, tasks))
        _print_states(verify(name))
        print(f"  in {folder_of(name)}")


def verify_(names: list[str] = []) -> int:  # noqa: B006 - never changed; the parser wants a list
    """Compare what is here with the published hashes; exit status 1 if anything is damaged.

    Args:
        names: only these; default: all.
    """
    damaged = False
    for name in names or load_catalogue():
        states = verify(name)
        print(f"{name}: {_overall(states)}")
        _print_states(states)
        damaged |= any(file.state == "damaged" for file in states)
    return int(damaged)


def pack(model: str, *, out: Path, half: bool = False) -> None:
    """Copy a trained model, configuration and weights, into a folder that can be given away.

    Args:
        model: YAML file, such as the model.yaml of a training run, or a name in config/models.
        out: the folder; its model.yaml is what the node and all commands take as model.
        half: store the weights in fp16, at half the size.
    """
    from kd3d_core.models.config import load_model_config
    from kd3d_core.models.pack import pack_model

    size = pack_model(load_model_config(model), out, half)
    print(f"{out / 'model.yaml'}: {_megabytes(size)} of weights")


def _advance(
    progress: Progress, tasks: dict[str, TaskID], file: str, done: int, total: int
) -> None:
    progress.update(tasks[file], completed=done, total=total or None)


def _allowed(weights: Weights) -> str:
    if weights.commercial_use == "unknown":
        return "unknown"
    return "yes" if weights.commercial_use else "no"


def _overall(states: list[FileState]) -> str:
    kinds = {file.state for file in states}
    if "damaged" in kinds:
        return "damaged"
    if kinds == {"present"}:
        return "present"
    return "incomplete" if "present" in kinds else "missing"


def _print_states(states: list[FileState]) -> None:
    for file in states:
        if file.state != "missing":
            print(f"  {file.name}: {file.state}, {file.detail}")


def _print_terms(weights: Weights) -> None:
    allowed = _allowed(weights)
    print(f"  origin: {weights.origin}")
    print(f"  licence: {weights.licence}; commercial use: {allowed}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size else "size unknown"


def main() -> int:
    """Entry point."""
    return run(
        {"list": list_, "get": get, "verify": verify_, "pack": pack},
        prog="kd3d-weights",
        description="Weights: what others publish, downloads, checks; and packing those of a run.",
        examples=[
            "kd3d-weights list",
            "kd3d-weights get glpn-kitti mvxnet-kitti",
            "kd3d-weights verify",
            "kd3d-weights pack runs/kitti_lite_pseudo/model.yaml --out my_model --half",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
