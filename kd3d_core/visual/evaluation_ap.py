"""Sections of `kd3d-eval report` on average precision and on depth maps."""

from collections.abc import Mapping, Sequence

import numpy as np

from kd3d_core.evaluation.depth import DepthReport
from kd3d_core.evaluation.kitti_ap import LEVELS, METRICS, POSITIONS, KittiAP, min_overlap
from kd3d_core.evaluation.report import Evaluation, Run
from kd3d_core.visual import plots
from kd3d_core.visual.page import Drawing, Part, Section, Table

_RECALL = np.linspace(0, 1, POSITIONS)
_MODERATE, _HARD = 1, 2
_DEPTH_MEASURES = ("abs_rel", "rmse", "silog", "delta_1")


def ap_sections(evaluation: Evaluation) -> list[Section]:
    """AP as a whole, its curves, and AP in parts; why there is none, where no label counts."""
    if not evaluation.classes:
        text = "No label counts, so that no class has AP: the notes below say why."
        return [Section("Average precision", (), text)]
    parts = (_ap_section, _curve_section, _distance_section, _occlusion_section)
    return [part(evaluation) for part in parts]


def car_ap(run: Run) -> str:
    """3D R40 of cars at moderate, in percent; a dash where there is none."""
    return _text(_ap(run.breakdown.overall, "car", "3d", _MODERATE))


def _ap(result: KittiAP, name: str, metric: str, level: int) -> float | None:
    """R40 in percent; None where it is undefined."""
    return _or_none(result.curves[name][metric].r40[level])


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ap_by_level(result: KittiAP, name: str, metric: str) -> list[str]:
    return [_text(_ap(result, name, metric, level)) for level in range(len(LEVELS))]


def _ap_section(evaluation: Evaluation) -> Section:
    def table(run: Run) -> Table:
        result = run.breakdown.overall
        rows = tuple(
            (
                name,
                metric,
                f"{min_overlap(result.iou, name, metric):g}",
                *_ap_by_level(result, name, metric),
            )
            for name in evaluation.classes
            for metric in METRICS
        )
        return Table(("class", "metric", "IoU", *LEVELS), rows, run.name)

    text = "R40 in percent, as kd3d-eval kitti prints it."
    return Section("Average precision", tuple(map(table, evaluation.runs)), text)


def _curve_section(evaluation: Evaluation) -> Section:
    def drawing(name: str, run: Run) -> Drawing:
        result = run.breakdown.overall
        ap = [
            f"{level} {text}"
            for level, text in zip(LEVELS, _ap_by_level(result, name, "3d"), strict=True)
        ]
        precision = result.curves[name]["3d"].values
        lines = {text: (_RECALL, values) for text, values in zip(ap, precision, strict=True)}
        title = f"{name}, {run.name}" if evaluation.runs[1:] else name
        return Drawing(
            plots.curves(lines, title, ("recall", "precision")),
            f"Precision over recall in 3D of {name}, {run.name}: R40 {', '.join(ap)}",
        )

    def together(name: str) -> Drawing:
        """Of many runs."""
        lines = {
            run.name: (_RECALL, run.breakdown.overall.curves[name]["3d"].values[_MODERATE])
            for run in evaluation.runs
        }
        ap = ", ".join(
            f"{run.name} {_text(_ap(run.breakdown.overall, name, '3d', _MODERATE))}"
            for run in evaluation.runs
        )
        return Drawing(
            plots.curves(lines, name, ("recall", "precision")),
            f"Precision over recall in 3D of {name}, moderate: R40 {ap}",
        )

    if len(evaluation.runs) > 2:
        which = "moderate"
        parts = tuple(map(together, evaluation.classes))
    else:
        which = "which is beside the names"
        parts = tuple(drawing(name, run) for name in evaluation.classes for run in evaluation.runs)
    text = (
        f"In 3D, at the 41 recall positions of R40, {which}. Precision is the best that is reached "
        "at that recall or beyond."
    )
    return Section("Precision over recall", parts, text)


def _distance_section(evaluation: Evaluation) -> Section:
    text = (
        "AP of the labels in each band; other labels are ignored, and so are detections in other "
        "bands without a label. With n labels, 40 or fewer, R40 is at most 100 (n - 1) / 40. 3D, "
        "moderate."
    )
    results = [run.breakdown.by_distance for run in evaluation.runs]
    return Section("By distance", _part_plots(evaluation, results, _MODERATE, "distance"), text)


def _occlusion_section(evaluation: Evaluation) -> Section:
    text = (
        "AP of the labels of each occlusion; other labels are ignored. A detection has no "
        "occlusion, so the wrong detections are the same for each. 3D, hard, R40."
    )
    results = [run.breakdown.by_occlusion for run in evaluation.runs]
    return Section("By occlusion", _part_plots(evaluation, results, _HARD, "occlusion"), text)


def _part_plots(
    evaluation: Evaluation, results: Sequence[dict[str, KittiAP]], level: int, what: str
) -> tuple[Part, ...]:
    """For each class a plot, and one table of all of them."""
    runs, classes = evaluation.runs, evaluation.classes
    ap = {
        (name, run.name): [_ap(part, name, "3d", level) for part in parts.values()]
        for name in classes
        for run, parts in zip(runs, results, strict=True)
    }
    names = list(results[0])
    ticks = [name.replace(" ", "\n", 1) if what == "occlusion" else name for name in names]
    drawings = [
        Drawing(
            plots.bars(
                ticks,
                {run.name: ap[name, run.name] for run in runs},
                name,
                ("", "AP, %"),
                top=100,
            ),
            f"AP of {name} by {what}; the table has the numbers.",
        )
        for name in classes
    ]
    rows = tuple(
        (
            name,
            part,
            str(results[0][part].objects[name][level]),
            *(_text(ap[name, run.name][index]) for run in runs),
        )
        for name in classes
        for index, part in enumerate(names)
    )
    heads = [run.name for run in runs] if runs[1:] else ["R40"]
    table = Table(("class", what, "labels", *heads), rows)
    return (*drawings, table)


def depth_sections(runs: Sequence[Run]) -> list[Section]:
    """Errors of depth maps, if any run has them."""
    reports = {run.name: run.depth for run in runs if run.depth is not None}
    return [_depth_section(reports)] if reports else []


def _depth_section(reports: Mapping[str, DepthReport]) -> Section:
    """Reports by name of their run, all of the same frames and rules."""
    first = next(iter(reports.values()))
    rules = first.rules
    bands = rules.ranges[1:]
    drawings = tuple(
        Drawing(
            plots.bars(
                bands,
                {
                    name: [_or_none(report.scores[band].per_pixel[measure]) for band in bands]
                    for name, report in reports.items()
                },
                measure,
                ("true distance, m", unit),
            ),
            f"{measure} of the depth by distance; the table has the numbers.",
        )
        for measure, unit in (("abs_rel", "share"), ("rmse", "m"))
    )
    heads = [
        f"{measure}, {name}" if len(reports) > 1 else measure
        for measure in _DEPTH_MEASURES
        for name in reports
    ]
    rows = tuple(
        (
            f"{band} m" if band != "all" else band,
            str(score.pixels),
            *(
                f"{report.scores[band].per_pixel[measure]:.4f}"
                for measure in _DEPTH_MEASURES
                for report in reports.values()
            ),
        )
        for band, score in first.scores.items()
        if score.pixels
    )
    table = Table(("distance", "pixels", *heads), rows)
    text = (
        f"Depth of {' and '.join(reports)}: all pixels of {first.frames} frames together, against "
        f"the velodyne; crop {rules.crop}, truth {rules.min_depth:g} to {rules.cap:g} m."
    )
    return Section("Depth error by distance", (*drawings, table), text)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
