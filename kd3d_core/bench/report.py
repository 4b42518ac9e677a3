"""What was measured, as plain values: printed, kept in a file, and compared with an earlier one."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from kd3d_core.errors import DataError, first_line

Report = dict[str, Any]

STAGES = ("depth", "points", "boxes")
"""What all chains do, one after another; an image that comes and answers that go count as well."""

OURS = "kd3d"
"""Name of our chain."""

TOLERANCE = 0.10
"""What a ratio may be worse by."""


def show(report: Report) -> None:
    """Print a report as tables."""
    console = Console()
    machine, model = report["machine"], report["model"]
    table = Table(
        "chain", *STAGES, "total", "p95", "CPU",
        title=f"{model['description']}\n{report['images']}, {machine['name']}",
        caption="median ms by the clock; CPU: of all threads; ratio: to kd3d",
    )  # fmt: skip
    keys = (*STAGES, "total", "cpu")
    for name, chain in report["chains"].items():
        *cells, cpu = (f"{chain[key]['median']:.1f}" if key in chain else "-" for key in keys)
        table.add_row(name, *cells, f"{chain['total']['p95']:.1f}", cpu)
    for name, ratio in report["ratios"].items():
        *cells, cpu = (f"{ratio[key]:.2f}" for key in keys)
        table.add_row(f"{name}: ratio", *cells, "", cpu)
    console.print(table)
    rate = 1000 / report["chains"][OURS]["total"]["median"]
    console.print(
        f"{rate:.1f} frames/s, {model['parameters'] / 1e6:.1f} M parameters, "
        f"{model['memory_gib']:.2f} GiB, {model['gflop']:.1f} GFLOP an image: in the fastest "
        f"{model['share_of_rate']:.0%} of the {machine['gflop_per_s']:.0f} GFLOP/s of a matrix "
        "product here"
    )


def read_report(path: Path) -> Report:
    """A report that `--json` wrote; `DataError` if it is none."""
    try:
        report = json.loads(path.read_text())
        if {"chains", "ratios", "model", "machine"} <= report.keys():
            return report
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a report of kd3d-bench --json: {first_line(error)}") from None
    raise DataError(f"{path}: not a report of kd3d-bench --json: it has no chains and ratios")


def worse(old: Report, new: Report, tolerance: float = TOLERANCE) -> list[str]:
    """A line for each ratio to the same other chain that is worse than it was.

    Ratios within a run, since times of two runs say little: on a CPU that of the CPU time, on which
    other processes have the least influence; on a GPU those by the clock.

    >>> old = {"ratios": {"upstream": {"depth": 2.0, "cpu": 3.0}}, "machine": {"device": "cpu"}}
    >>> new = {"ratios": {"upstream": {"depth": 1.0, "cpu": 2.4}}, "machine": {"device": "cpu"}}
    >>> worse(old, new)
    ['upstream: cpu was 3.00 times ours and is 2.40']
    """
    on_cpu = old["machine"]["device"] == "cpu"
    lines = []
    for name, ratio in old["ratios"].items():
        now = new["ratios"].get(name)
        if now is None:
            lines.append(f"{name}: isn't measured any more")
            continue
        for stage, before in ratio.items():
            if (stage == "cpu") == on_cpu and now[stage] < before * (1 - tolerance):
                lines.append(f"{name}: {stage} was {before:.2f} times ours and is {now[stage]:.2f}")
    return lines
