"""A study's pictures: AP by variant, and over the epochs."""

from pathlib import Path

from kd3d_core.files import write_whole
from kd3d_core.study.history import read_history
from kd3d_core.study.runs import student_runs
from kd3d_core.study.table import Table
from kd3d_core.visual.plots import Line, epoch_lines, seed_dots


def write_plots(table: Table) -> None:
    """Write `ap.png` and `epochs.png` into the study's folder, if any run is finished."""
    if not table.finished:
        return
    out = Path(table.study.out)
    values = {
        metric.name: {row.name: list(row.values[metric.name].values()) for row in table.rows}
        for metric in table.study.metrics
    }
    title = f"{out.name}: a dot for each seed, a line at the mean"
    write_whole(out / "ap.png", seed_dots(values, "AP R40 moderate, %", title))
    title = f"{out.name}: students at their validations, a line for each seed"
    write_whole(
        out / "epochs.png", epoch_lines(students_over_epochs(table), "AP R40 moderate, %", title)
    )


def students_over_epochs(table: Table) -> dict[str, dict[str, list[Line]]]:
    """By metric and variant, epochs and AP of each finished run.

    The teacher is left out: beside it the students couldn't be told apart.
    """
    found: dict[str, dict[str, list[Line]]] = {
        metric.name: {} for metric in table.study.metrics if metric.validation_name is not None
    }
    for run in student_runs(table.study):
        result = table.results[run.variant].get(run.seed)
        if result is None:
            continue
        history = read_history(run.folder)
        epochs = [result["epochs"] * step / result["steps"] for step in history.steps]
        for metric in table.study.metrics:
            scores = history.scores.get(metric.validation_name or "")
            if scores is not None:
                found[metric.name].setdefault(run.variant, []).append((epochs, scores))
    return found
