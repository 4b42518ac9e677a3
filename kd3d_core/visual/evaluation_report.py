"""The page of `kd3d-eval report`: curves, AP in parts, depth errors, and the worst frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import label_objects
from kd3d_core.data.labels import Label
from kd3d_core.evaluation.depth import DepthReport
from kd3d_core.evaluation.kitti_ap import LEVELS, METRICS, POSITIONS, KittiAP, min_overlap
from kd3d_core.evaluation.report import Breakdown, Mistakes
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual import plots
from kd3d_core.visual.frame import Scene, legend
from kd3d_core.visual.page import Column, Drawing, Frame, Page, Part, Section, Strip, Table
from kd3d_core.visual.report import frame_column

_RECALL = np.linspace(0, 1, POSITIONS)
_MODERATE, _HARD = 1, 2
_DEPTH_MEASURES = ("abs_rel", "rmse", "silog", "delta_1")


@dataclass(frozen=True)
class Run:
    """Detections of one model by frame, and their evaluation.

    Attributes:
        name: of the run, for headings and legends.
        breakdown: AP as a whole and in parts.
        depth: errors of its depth maps, if there are any.
    """

    name: str
    detections: Sequence[Sequence[Label]]
    breakdown: Breakdown
    mistakes: Mistakes
    depth: DepthReport | None = None


@dataclass(frozen=True)
class Evaluation:
    """Content of a page: one run, or two to compare; the worst frames are those of the first.

    `min_score` is the threshold of the mistakes and of the boxes in pictures.
    """

    names: Sequence[str]
    ground_truth: Sequence[Sequence[Label]]
    runs: tuple[Run, ...]
    min_score: float


def evaluation_page(
    evaluation: Evaluation,
    pictures: KittiDataset | None,
    most: int = 12,
    notes: Sequence[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> Page:
    """The page of an evaluation.

    Args:
        pictures: images and calibration of the frames; without them the worst frames are a table.
        most: how many of the worst frames are shown; 0 leaves their section out.

    Raises:
        DataError: a frame to draw has no image or calibration, or a file is malformed.
    """
    first = evaluation.runs[0]
    if _seen_classes(evaluation.runs):
        sections = [_ap_section(evaluation.runs), _curve_section(evaluation.runs)]
        sections += [_distance_section(evaluation.runs), _occlusion_section(evaluation.runs)]
    else:
        text = "No label counts, so that no class has AP: the notes below say why."
        sections = [Section("Average precision", (), text)]
    depths = {run.name: run.depth for run in evaluation.runs if run.depth is not None}
    if depths:
        sections.append(_depth_section(depths))
    if most:
        sections.append(_worst_section(evaluation, pictures, most, advance))
    overall = first.breakdown.overall
    facts = [("frames", str(overall.frames)), ("overlap", overall.iou)]
    for name in _seen_classes(evaluation.runs):
        facts.append((f"{name} labels (hard)", str(overall.objects[name][_HARD])))
    for run in evaluation.runs:
        value = _ap(run.breakdown.overall, "car", "3d", _MODERATE)
        facts.append((f"car 3D moderate, {run.name}", _text(value)))
    lead = " and ".join(run.name for run in evaluation.runs)
    lead = f"{lead}, evaluated by KITTI's rules" + (
        ", side by side." if evaluation.runs[1:] else "."
    )
    return Page("Evaluation", lead, tuple(facts), tuple(sections), notes=tuple(notes))


def _ap(result: KittiAP, name: str, metric: str, level: int) -> float | None:
    """R40 in percent; None where it is undefined."""
    return _or_none(result.curves[name][metric].r40[level])


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ap_by_level(result: KittiAP, name: str, metric: str) -> list[str]:
    return [_text(_ap(result, name, metric, level)) for level in range(len(LEVELS))]


def _seen_classes(runs: Sequence[Run]) -> list[str]:
    """Classes that have labels."""
    return [name for name, counts in runs[0].breakdown.overall.objects.items() if counts[_HARD]]


def _ap_section(runs: Sequence[Run]) -> Section:
    def table(run: Run) -> Table:
        result = run.breakdown.overall
        rows = tuple(
            (
                name,
                metric,
                f"{min_overlap(result.iou, name, metric):g}",
                *_ap_by_level(result, name, metric),
            )
            for name in _seen_classes(runs)
            for metric in METRICS
        )
        return Table(("class", "metric", "IoU", *LEVELS), rows, run.name)

    text = "R40 in percent, as kd3d-eval kitti prints it."
    return Section("Average precision", tuple(map(table, runs)), text)


def _curve_section(runs: Sequence[Run]) -> Section:
    def drawing(name: str, run: Run) -> Drawing:
        result = run.breakdown.overall
        ap = [
            f"{level} {text}"
            for level, text in zip(LEVELS, _ap_by_level(result, name, "3d"), strict=True)
        ]
        precision = result.curves[name]["3d"].values
        lines = {text: (_RECALL, values) for text, values in zip(ap, precision, strict=True)}
        title = f"{name}, {run.name}" if runs[1:] else name
        return Drawing(
            plots.curves(lines, title, ("recall", "precision")),
            f"Precision over recall in 3D of {name}, {run.name}: R40 {', '.join(ap)}",
        )

    parts = tuple(drawing(name, run) for name in _seen_classes(runs) for run in runs)
    text = (
        "In 3D, at the 41 recall positions of R40, which is beside the names. Precision is the "
        "best that is reached at that recall or beyond."
    )
    return Section("Precision over recall", parts, text)


def _distance_section(runs: Sequence[Run]) -> Section:
    text = (
        "AP of the labels in each band; other labels are ignored, and so are detections in other "
        "bands without a label. With n labels, 40 or fewer, R40 is at most 100 (n - 1) / 40. 3D, "
        "moderate."
    )
    results = [run.breakdown.by_distance for run in runs]
    return Section("By distance", _part_plots(runs, results, _MODERATE, "distance"), text)


def _occlusion_section(runs: Sequence[Run]) -> Section:
    text = (
        "AP of the labels of each occlusion; other labels are ignored. A detection has no "
        "occlusion, so the wrong detections are the same for each. 3D, hard, R40."
    )
    results = [run.breakdown.by_occlusion for run in runs]
    return Section("By occlusion", _part_plots(runs, results, _HARD, "occlusion"), text)


def _part_plots(
    runs: Sequence[Run], results: Sequence[dict[str, KittiAP]], level: int, what: str
) -> tuple[Part, ...]:
    """For each class a plot, and one table of all of them."""
    classes = _seen_classes(runs)
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


def _worst_section(
    evaluation: Evaluation, pictures: KittiDataset | None, most: int, advance: Callable[[], None]
) -> Section:
    first = evaluation.runs[0]
    worst = first.mistakes.worst[:most]
    text = (
        f"Frames in which {first.name} has most mistakes: labels missed and detections wrong, with "
        f"scores from {evaluation.min_score:g}, in 3D, level hard, all classes together."
    )
    if not worst:
        return Section("Worst frames", (), "There is no frame with a mistake.")
    if pictures is None:
        rows = tuple(
            (
                evaluation.names[index],
                *(
                    str(count[index])
                    for run in evaluation.runs
                    for count in (run.mistakes.missed, run.mistakes.wrong)
                ),
            )
            for index in worst
        )
        heads = [f"{what}, {run.name}" for run in evaluation.runs for what in ("missed", "wrong")]
        table = Table(("frame", *heads), rows)
        return Section("Worst frames", (table,), f"{text} Give --data to see them.")
    shown = []
    for index in worst:
        shown.append(_worst_frame(evaluation, index, pictures.frame(evaluation.names[index])))
        advance()
    found = {
        label.type for index in worst for run in evaluation.runs for label in run.detections[index]
    }
    strip = Strip(tuple(shown), rate_hz=1.0, legend=legend(sorted(found), has_truth=True))
    return Section("Worst frames", (strip,), text)


def _worst_frame(evaluation: Evaluation, index: int, frame: KittiFrame) -> Frame:
    image, camera = frame.image(), frame.camera()
    points = frame.points_in_view() if frame.has_lidar else np.zeros((0, 4), np.float32)

    def boxes(labels: Sequence[Label]) -> ObjectBoxes:
        return label_objects(labels, camera.lidar_from_camera, index, "velodyne")

    truth = boxes([label for label in evaluation.ground_truth[index] if label.is_object])
    columns: list[Column] = []
    for run in evaluation.runs:
        found = boxes(
            [
                label
                for label in run.detections[index]
                if label.score is not None and label.score >= evaluation.min_score
            ]
        )
        heading = (
            f"{run.name}: {run.mistakes.missed[index]} missed, {run.mistakes.wrong[index]} wrong"
        )
        columns.append(frame_column(Scene(image, camera, points, found, truth), heading))
    return Frame(frame.name, tuple(columns))
