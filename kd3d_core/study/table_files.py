"""A study's table as files: Markdown for readers, JSON and CSV for programs."""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kd3d_core.files import write_json, write_whole
from kd3d_core.study.table import Row, Spread, Table


def write_table(table: Table) -> None:
    """Write `table.md`, `table.json` and `table.csv` into the study's folder."""
    out = Path(table.study.out)
    write_whole(out / "table.md", markdown(table).encode())
    write_json(out / "table.json", as_json(table))
    write_whole(out / "table.csv", as_csv(table).encode())


def as_json(table: Table) -> dict[str, Any]:
    """The table as JSON has it."""
    study = table.study
    return {
        "runs": {"finished": table.finished, "planned": table.planned, "failed": table.failures},
        "control": study.control,
        "metrics": [metric.name for metric in study.metrics],
        "rows": [asdict(row) for row in table.rows],
    }


def as_csv(table: Table) -> str:
    """A line for each finished run."""
    metrics = [metric.name for metric in table.study.metrics]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["variant", "seed", *metrics, "seconds", "steps", "revision"])
    for row in table.rows:
        for seed in row.seeds:
            result = table.results[row.name][seed]
            values = [f"{row.values[metric].get(seed, math.nan):.4f}" for metric in metrics]
            rest = [f"{result['seconds']:.0f}", result["steps"], result["revision"]]
            writer.writerow([row.name, seed, *values, *rest])
    return buffer.getvalue()


def markdown(table: Table) -> str:
    """The table for a reader."""
    study = table.study
    metrics = [metric.name for metric in study.metrics]
    planned = len(study.seeds)
    only_3d = all(metric.kind == "3d" for metric in study.metrics)
    parts = [
        f"# {Path(study.out).name}",
        f"{table.finished} of {table.planned} runs are in. AP R40 moderate in percent"
        f"{', in 3D' if only_3d else ', in 3D where BEV is not said'}; class and IoU above each "
        "column; mean over seeds ± sample standard deviation.",
        _lines(
            ["", "seeds", *metrics, "s per run"],
            (
                [
                    row.name,
                    f"{len(row.seeds)} of {1 if row.name in study.references else planned}",
                    *(_text(row.ap[metric]) for metric in metrics),
                    "-" if row.seconds is None else f"{row.seconds:.0f}",
                ]
                for row in table.rows
            ),
        ),
        f"Against `{study.control}` with the same seeds, in points, and the share of the way from "
        "there to the teacher (- where the teacher isn't ahead):",
        _lines(
            ["", *metrics],
            (
                [row.name, *(_gain(row, metric) for metric in metrics)]
                for row in table.rows
                if row.name != study.control
            ),
        ),
        "\n".join(f"- {note}" for note in _notes(table)),
    ]
    return "\n\n".join(parts) + "\n"


def _notes(table: Table) -> list[str]:
    study = table.study
    notes = [
        "Every run is judged with the weights of its last epoch (averaged, if the run averages); "
        "no frame of the validation set decided which.",
        "All objects of KITTI's moderate level count, also those beyond the detector's range.",
    ]
    result = next((r for by_seed in table.results.values() for r in by_seed.values()), None)
    if result is not None:
        counts = ", ".join(
            f"{count} {name} ({result['beyond_range'][name]} beyond the range)"
            for name, count in result["objects"].items()
        )
        notes.append(f"{result['frames']} frames to validate on, with {counts}.")
    if len(study.seeds) > 1:
        notes.append(
            "There is one teacher, so its row has no spread; ± of a difference is over seeds, each "
            "compared with the control's run of the same seed."
        )
    notes.append(
        "s per run is the time of training with its validations, without starting up, on whatever "
        "else the machine did."
    )
    revisions = Counter(
        result["revision"] for by_seed in table.results.values() for result in by_seed.values()
    )
    if len(revisions) > 1 or any(name.endswith("-dirty") for name in revisions):
        counts = ", ".join(f"{name} ({count})" for name, count in revisions.items())
        notes.append(
            f"NOT OF ONE REVISION: runs were trained by {counts}; dirty is code with changes that "
            "aren't committed."
        )
    notes += [f"FAILED: {name}: {reason}" for name, reason in table.failures.items()]
    return notes


def _lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(spread: Spread | None, sign: str = "") -> str:
    if spread is None:
        return "-"
    text = f"{spread.mean:{sign}.2f}"
    return text if spread.deviation is None else f"{text} ± {spread.deviation:.2f}"


def _gain(row: Row, metric: str) -> str:
    text = _text(row.difference[metric], "+")
    share = row.gap_closed[metric]
    return text if share is None else f"{text} ({share:.0%})"
