"""The page of `kd3d-compare`: models in one table, and beside each other in plots."""

from collections.abc import Mapping, Sequence

from kd3d_core.evaluation.report import Evaluation
from kd3d_core.visual import plots
from kd3d_core.visual.evaluation_ap import ap_sections, depth_sections
from kd3d_core.visual.page import Drawing, Lines, Page, Section, Table

COSTS = {"ms": "time of an image, ms", "M parameters": "M parameters", "GiB": "peak memory, GiB"}
"""Columns of the table that say what a model costs, and titles of their plots."""


def comparison_page(
    table: Sequence[Mapping[str, str]],
    evaluation: Evaluation,
    failures: Mapping[str, str],
    untrained: Sequence[str],
    notes: Sequence[str],
) -> Page:
    """The page.

    Args:
        table: a row for each model, by column; `model` is its name.
        evaluation: of the models that ran, with the names in the table.
        failures: why others did not, by name.
        untrained: names of models with random weights.
        notes: what a reader of the numbers should know.
    """
    columns = tuple(table[0])
    rows = tuple(tuple(row[column] for column in columns) for row in table)
    parts: list[Table | Lines] = [Table(columns, rows)]
    if failures:
        parts.append(Lines(tuple(f"{name} failed: {why}" for name, why in failures.items())))
    ran = [row for row in table if row["model"] not in failures]
    text = (
        f"AP: R40 in percent, 3D, moderate, {evaluation.runs[0].breakdown.overall.iou} overlap; "
        "AbsRel and RMSE of depth maps against LiDAR; time: median and 95th percentile of an image "
        "from its bytes to boxes, one after another."
    )
    sections = [
        Section("Models", tuple(parts), text),
        Section("Costs", tuple(_costs(ran, key, title) for key, title in COSTS.items())),
        *ap_sections(evaluation),
        *depth_sections(evaluation.runs),
    ]
    facts = (("models", str(len(table))), ("frames", str(len(evaluation.names))))
    lead = f"{', '.join(row['model'] for row in table)} on the same frames."
    warnings = [f"{len(failures)} of {len(table)} models failed."] if failures else []
    if untrained:
        warnings.append(f"UNTRAINED, what they find is noise: {', '.join(untrained)}.")
    return Page("Comparison of models", lead, facts, sections, " ".join(warnings), tuple(notes))


def _costs(rows: Sequence[Mapping[str, str]], key: str, title: str) -> Drawing:
    values = {row["model"]: [float(row[key])] for row in rows}
    return Drawing(
        plots.bars([""], values, title, ("", "")), f"{title}; the table has the numbers."
    )
