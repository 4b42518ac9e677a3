"""`kd3d-compare`: several models on one data set, in one table."""

import csv
import io
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import isnan, nan
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Literal

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.cli.frames import frame_slice
from kd3d_core.cli.table import print_table
from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, DataError, Kd3dError

if TYPE_CHECKING:
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.evaluation.kitti_ap import KittiAP
    from kd3d_core.evaluation.kitti_rules import Strictness
    from kd3d_core.evaluation.report import Run
    from kd3d_core.models.config import ModelConfig

log = logging.getLogger(__name__)

_MIN_SCORE = 0.3  # of kinds of errors, which the page doesn't have


def compare(
    models: list[str],
    *,
    data: Path,
    out: Path = Path("out/compare"),
    ids: Path | None = None,
    frames: str = ":",
    device: str = "auto",
    precision: Precision = "auto",
    iou: Literal["strict", "loose"] = "strict",
    bands: list[str] = ["0", "20", "40", "60"],  # noqa: B006 - never changed
) -> int:
    """Compare models: AP, also by distance, depth errors, time, parameters, memory.

    Each model runs in a process of its own, and its result is kept: the same command goes on after
    an interruption, and takes what is there of models that haven't changed. A model that fails is a
    row that says why, and is tried again the next time; the exit status is then 1.

    Args:
        models: names in config/models or weights, or YAML files.
        data: data set in KITTI's layout with labels, or its `training` folder.
        out: folder for index.html, table.csv, and for each model its detections, log and result.
        ids: file that lists the frames; default: all of the data set.
        frames: range of those, as a:b, counted from 0 and without b; all by default.
        device: auto, cpu, cuda or cuda:N.
        precision: number format of the networks; auto suits the device and each model.
        iou: set of least overlaps, as in `kd3d-eval kitti`.
        bands: borders of the distance bands, metres.
    """
    from kd3d_core.cli.eval import metres
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.data.splits import read_split
    from kd3d_core.models.config import load_model_config

    configs = {name: load_model_config(model) for name, model in _named(models).items()}
    borders = tuple(metres(word) for word in bands)
    if len(borders) < 2 or any(far <= near for near, far in pairwise(borders)):
        raise Kd3dError(f"--bands {' '.join(bands)}: give two or more rising distances")
    dataset = KittiDataset(data) if ids is None else KittiDataset(data).subset(read_split(ids))
    names = dataset.names[frame_slice(frames)]
    if not names:
        raise DataError(f"--frames {frames} selects none of the {len(dataset)} frames in {data}")
    dataset = dataset.subset(names)
    dataset.require(("image_2", "calib", "label_2"))

    # Loads torch: after all that may be wrong.
    import fcntl

    from kd3d_core.devices import usable_device
    from kd3d_core.files import locked, write_whole

    device = usable_device(device)
    refusal = f"{out} is in use by another kd3d-compare: wait for it"
    results: dict[str, dict[str, Any]] = {}
    failures: dict[str, str] = {}
    with locked(out, fcntl.flock, refusal) as lock, exit_on_sigterm():
        write_whole(out / "frames.txt", "".join(f"{name}\n" for name in names).encode())
        for name, model in _named(models).items():
            words = [model, str(data), "--device", device, "--precision", precision]
            try:
                results[name] = _result(out, name, configs[name], words, dataset, lock)
            except Kd3dError as error:
                log.warning("%s failed: %s", name, error)
                failures[name] = str(error)
        if not results:
            name, why = next(iter(failures.items()))
            raise Kd3dError(f"none of {len(failures)} models ran; {name}: {why}")
        _write(out, dataset, configs, results, failures, iou, borders, ids is None)
    return 1 if failures else 0


def _named(models: Sequence[str]) -> dict[str, str]:
    """The models by the names of their rows and folders: those of files where they are files.

    >>> _named(["demo", "runs/site/model.yaml", "mine.yaml"])
    {'demo': 'demo', 'site': 'runs/site/model.yaml', 'mine': 'mine.yaml'}
    """
    from kd3d_core.models.config import is_model_file

    named: dict[str, str] = {}
    for model in models:
        name = model
        if is_model_file(model):
            path = Path(model).resolve()
            name = path.parent.name if path.stem == "model" else path.stem
        if name in named:
            raise ConfigError(f"{named[name]} and {model} would both be called {name}: rename one")
        named[name] = model
    return named


def _result(
    out: Path,
    name: str,
    config: "ModelConfig",
    words: Sequence[str],
    dataset: "KittiDataset",
    lock: int,
) -> dict[str, Any]:
    """What `compare_model` found for a model, now or earlier; see `kd3d_core.study.process`."""
    from kd3d_core.config import settings_digest
    from kd3d_core.files import read_json
    from kd3d_core.offline.store import model_digest
    from kd3d_core.progress import progress_of
    from kd3d_core.study.process import run_logged

    folder = out / name
    found = folder / "detections"
    digest = model_digest(config, " ".join(words))
    digest = settings_digest([digest, list(dataset.names), _inputs(dataset)])
    if (folder / "result.json").is_file():
        result = read_json(folder / "result.json")
        is_whole = all((found / f"{each}.txt").is_file() for each in dataset.names)
        if result.get("digest") == digest and is_whole:
            log.info("%s: nothing changed, its result is kept", name)
            return result
        (folder / "result.json").unlink()  # a run that is interrupted leaves others' detections
    rmtree(found, ignore_errors=True)
    command = ["kd3d_core.cli.compare_model", *words, "--digest", digest]
    command += ["--out", str(folder), "--ids", str(out / "frames.txt")]
    with progress_of(name, len(dataset)) as step:
        seen = 0

        def advance(_: str) -> None:
            nonlocal seen
            there = len(list(found.glob("*.txt")))
            for _frame in range(there - seen):
                step()
            seen = there

        run_logged(command, folder / "log.txt", advance, (lock,))
    return read_json(folder / "result.json")


def _inputs(dataset: "KittiDataset") -> list[tuple[str, int, int]]:
    """What of the data a result depends on; labels change scores, and not what models find."""
    files = (path for frame in dataset for part, path in frame.files.items() if part != "label_2")
    stats = ((path, path.stat()) for path in files)
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _write(
    out: Path,
    dataset: "KittiDataset",
    order: Iterable[str],
    results: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
    iou: "Strictness",
    bands_m: tuple[float, ...],
    all_frames: bool,
) -> None:
    """Evaluate what was found, print the table, and write it as CSV and as a page."""
    from kd3d_core.cli.eval_report import evaluate_run
    from kd3d_core.evaluation.depth import DepthReport
    from kd3d_core.evaluation.kitti_ap import evaluate_both
    from kd3d_core.evaluation.kitti_files import read_frames
    from kd3d_core.evaluation.notes import ap_notes
    from kd3d_core.evaluation.report import Evaluation
    from kd3d_core.files import write_whole
    from kd3d_core.visual.comparison_page import comparison_page
    from kd3d_core.visual.page import write_page

    runs, rows, notes = [], [], []
    for name, result in results.items():
        folder = out / name / "detections"
        found = read_frames(dataset.root / "label_2", folder, dataset.names)
        depth = None if result["depth"] is None else DepthReport.from_json(result["depth"])
        runs.append(evaluate_run(name, found, depth, iou, _MIN_SCORE, bands_m))
        overlaps = evaluate_both(found.ground_truth, found.detections)
        rows.append(_row(runs[-1], overlaps, result))
        notes += ap_notes(found, runs[-1].breakdown.overall, folder, all_frames=all_frames)
        trained = result["trained_on"] if result["trained"] else "nothing: its weights are random"
        notes.append(f"{name}: {result['description']}; trained on {trained}")
        notes.append(f"times and memory: {result['machine']['name']}")
    if without := dataset.without_lidar():
        notes.append(f"depth isn't compared: {len(without)} frames have no LiDAR")
    untrained = [name for name, result in results.items() if not result["trained"]]
    columns = list(rows[0])
    by_name = {row["model"]: row for row in rows}
    rows = [by_name.get(name) or {**dict.fromkeys(columns, "-"), "model": name} for name in order]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, "failure"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "failure": failures.get(row["model"], "")} for row in rows)
    write_whole(out / "table.csv", text.getvalue().encode())
    columns = [key for key in columns if not key.endswith(" m")]  # distances have a section
    shown = [{key: row[key] for key in columns} for row in rows]
    evaluation = Evaluation(dataset.names, found.ground_truth, tuple(runs), _MIN_SCORE, bands_m)
    write_page(
        out / "index.html",
        comparison_page(shown, evaluation, failures, untrained, list(dict.fromkeys(notes))),
    )
    print_table([columns, *(list(row.values()) for row in shown)])
    for name, why in failures.items():
        print(f"{name} failed: {why}")
    print(f"{out / 'index.html'}: open it in a browser; {out / 'table.csv'} has the numbers")


def _row(run: "Run", overlaps: "Iterable[KittiAP]", result: Mapping[str, Any]) -> dict[str, str]:
    """A model's row; AP is that of 3D, R40, moderate."""
    from kd3d_core.evaluation.kitti_rules import min_overlap

    def ap(found: "KittiAP", kind: str) -> str:
        return _number(found.curves[kind]["3d"].r40[1], 2)

    row = {"model": run.name}
    for found in overlaps:
        for kind in found.curves:
            row[f"{kind} {min_overlap(found.iou, kind, '3d'):g}"] = ap(found, kind)
    for band, found in run.breakdown.by_distance.items():
        row |= {f"{kind} {band}": ap(found, kind) for kind in found.curves}
    errors = {} if run.depth is None else run.depth.scores["all"].per_pixel
    return row | {
        "AbsRel": _number(errors.get("abs_rel", nan), 4),
        "RMSE": _number(errors.get("rmse", nan), 2),
        "ms": _number(result["ms"]["median"], 1),
        "ms p95": _number(result["ms"]["p95"], 1),
        "M parameters": _number(result["parameters"] / 1e6, 1),
        "GiB": _number(result["memory_gib"], 2),
    }


def _number(value: float, digits: int) -> str:
    return "-" if isnan(value) else f"{value:.{digits}f}"


def main() -> int:
    """Entry point."""
    return run(
        compare,
        prog="kd3d-compare",
        description=(
            "Runs several models on one labelled data set, one after another, and writes one table "
            "of what they find and what they cost: index.html with plots, and table.csv."
        ),
        examples=[
            "kd3d-compare demo streets --data data/kitti_object",
            "kd3d-compare demo smoke_kitti pgd_kitti imvoxelnet_kitti --data data/kitti "
            "--ids val.txt --device cuda --out out/kitti_val",
            "kd3d-compare demo runs/site/student/model.yaml --data data/site --frames :200",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
