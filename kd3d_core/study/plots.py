"""A study's pictures: AP by variant, and over the epochs."""

from pathlib import Path

from kd3d_core.files import write_whole
from kd3d_core.study.table import Table
from kd3d_core.visual.plots import epoch_lines, seed_dots


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
    lines = {
        name: [(r["history"]["epochs"], r["history"]["mAP"]) for r in by_seed.values()]
        for name, by_seed in table.results.items()
        if by_seed
    }
    labels = ("epoch", "mean over classes of\nAP 3D R40 moderate, %")
    title = f"{out.name}: a line for each seed, KITTI's IoU"
    write_whole(out / "epochs.png", epoch_lines(lines, title, labels))
