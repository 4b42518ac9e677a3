"""Sections of `kd3d-eval report` on what is wrong with boxes: kinds, confusion, distance."""

from collections import Counter

import numpy as np

from kd3d_core.evaluation.box_errors import box_offsets, ground_distance
from kd3d_core.evaluation.error_kinds import KINDS, MISSED, RIGHT, ErrorKinds
from kd3d_core.evaluation.kitti_rules import CLASSES
from kd3d_core.evaluation.report import Evaluation, Run, band_names
from kd3d_core.visual import plots
from kd3d_core.visual.page import Drawing, Lines, Part, Section, Table

_ALL = "all"
_OF_A_LABEL = (RIGHT, "place", "size", "heading")
_OFFSETS = (
    *("distance", "boxes", "median, m", "half within, m", "9 of 10 within, m", "half within, %"),
    *("across: half, m", "heading: half, deg"),
)
_MEANINGS = (
    "place, size, heading: it belongs to a label within 15 % of the distance or 2 m, and with this "
    "one corrected it would overlap most",
    "class: it overlaps a label of another class",
    "duplicate: another detection belongs to its label",
    "background: nothing of its class is near",
    "missed: of the labels not found, those that no detection belongs to, not even a wrong one",
)


def error_sections(evaluation: Evaluation) -> list[Section]:
    """Kinds of errors by distance, their cost, confusion of classes, how far boxes are off."""
    parts = (_kind_section, _gain_section, _confusion_section, _offset_section)
    return [part(evaluation) for part in parts]


def _bands(evaluation: Evaluation, distance_m: np.ndarray) -> dict[str, np.ndarray]:
    """Which objects lie in each band, `(N,)` bool by its name, and all of them."""
    borders = evaluation.bands_m
    inside = {
        name: (distance_m >= near) & (distance_m < far)
        for name, near, far in zip(band_names(borders), borders, borders[1:], strict=False)
    }
    return {**inside, _ALL: np.ones(len(distance_m), bool)}


# -- kinds ---------------------------------------------------------------------------------------


def _kind_section(evaluation: Evaluation) -> Section:
    text = (
        f"Each wrong detection with a score from {evaluation.min_score:g} on has one reason, in "
        "3D, level hard. The distance is that of the label, where there is one."
    )
    parts: list[Part] = [Lines(_MEANINGS)]
    for run in evaluation.runs:
        counts = _kind_counts(evaluation, run.errors)
        shown = [name for name in CLASSES if counts[name, _ALL].total()]
        parts += [_kind_drawing(evaluation, run, name, counts) for name in shown]
        heads = ("detections", RIGHT, *KINDS, "labels", "not found", MISSED)
        rows = tuple(
            (f"{name}, {band}", *(str(count[head]) for head in heads))
            for (name, band), count in counts.items()
            if name in shown
        )
        parts.append(Table(("class, distance", *heads), rows, run.name))
    return Section("Kinds of errors", tuple(parts), text)


def _kind_counts(evaluation: Evaluation, errors: ErrorKinds) -> dict[tuple[str, str], Counter[str]]:
    """By class and band, how many detections and labels there are of each kind."""
    bands = _bands(evaluation, errors.distance_m)
    label_bands = _bands(evaluation, ground_distance(errors.labels))
    counts = {}
    for name in CLASSES:
        for band, inside in bands.items():
            kinds = errors.kind[inside & (errors.detections.type == name)]
            count = Counter(kinds[kinds != ""].tolist())
            count["detections"] = count.total()
            fates = errors.fate[label_bands[band] & (errors.labels.type == name)]
            fates = fates[fates != ""]
            count["labels"], count["not found"] = len(fates), int((fates != RIGHT).sum())
            count[MISSED] = int((fates == MISSED).sum())
            counts[name, band] = count
    return counts


def _kind_drawing(
    evaluation: Evaluation, run: Run, name: str, counts: dict[tuple[str, str], Counter[str]]
) -> Drawing:
    bands = band_names(evaluation.bands_m)
    series = {kind: [counts[name, band][kind] for band in bands] for kind in (*KINDS, MISSED)}
    title = f"{name}, {run.name}" if evaluation.runs[1:] else name
    return Drawing(
        plots.stacks(bands, series, title, ("", "errors")),
        f"Kinds of errors of {name} by distance, {run.name}; the table has the numbers.",
    )


def _gain_section(evaluation: Evaluation) -> Section:
    text = (
        "AP that correcting all errors of a kind would add, of all scores; 3D R40, moderate. The "
        "detection takes what is wrong from its label; duplicates and background are left out, and "
        "so are labels that are missed."
    )
    heads = (*KINDS, MISSED)
    tables = tuple(
        Table(
            ("class", *heads),
            tuple(
                (name, *(_signed(run.gains[name][kind]) for kind in heads))
                for name in evaluation.classes
            ),
            run.name,
        )
        for run in evaluation.runs
    )
    return Section("What correcting them would add", tables if evaluation.classes else (), text)


def _signed(number: float) -> str:
    return "-" if np.isnan(number) else f"{round(number, 2) + 0.0:+.2f}"


# -- confusion -----------------------------------------------------------------------------------


def _confusion_section(evaluation: Evaluation) -> Section:
    text = (
        "Labels in rows, in columns the class of the detection that belongs to them, well placed "
        "or not. Labels of the devkit's other classes, and hidden ones, are there only if a wrong "
        "detection is of them."
    )
    tables = tuple(_confusion(run) for run in evaluation.runs)
    return Section("Confusion of classes", tables, text)


def _confusion(run: Run) -> Table:
    errors = run.errors
    of_label = np.isin(errors.kind, (*_OF_A_LABEL, "class"))
    pairs = Counter(
        zip(
            errors.labels.type[errors.label[of_label]].tolist(),
            errors.detections.type[of_label].tolist(),
            strict=True,
        )
    )
    missed = Counter(errors.labels.type[errors.fate == MISSED].tolist())
    seen = {name for name, _ in pairs} | set(missed)
    names = [name for name in CLASSES if name in seen] + sorted(seen - set(CLASSES))
    rows = [
        (name, *(str(pairs[name, other]) for other in CLASSES), str(missed[name])) for name in names
    ]
    for kind in ("duplicate", "background"):
        counts = Counter(errors.detections.type[errors.kind == kind].tolist())
        rows.append((f"nothing: {kind}", *(str(counts[name]) for name in CLASSES), ""))
    return Table(("label", *CLASSES, MISSED), tuple(rows), run.name)


# -- how far off ---------------------------------------------------------------------------------


def _offset_section(evaluation: Evaluation) -> Section:
    text = (
        "Boxes that belong to a label, right or not, with scores from "
        f"{evaluation.min_score:g} on. Along the line of sight, which is the error of their depth: "
        "the median says whether boxes are too far (+) or too near (-), the others how far they "
        "are off in either direction: half of them by less, and nine of ten."
    )
    tables, medians = [], {}
    for run in evaluation.runs:
        rows, absolute = _offset_rows(evaluation, run.errors)
        medians[run.name] = absolute
        tables.append(Table(_OFFSETS, rows, run.name))
    drawing = Drawing(
        plots.bars(
            band_names(evaluation.bands_m), medians, "half of the boxes are within", ("", "m")
        ),
        "Median error of the boxes' depth by distance; the table has the numbers.",
    )
    return Section("Depth error of objects", (drawing, *tables), text)


def _offset_rows(
    evaluation: Evaluation, errors: ErrorKinds
) -> tuple[tuple[tuple[str, ...], ...], list[float | None]]:
    """A row for each band and for all; of each band the median error along the line of sight."""
    detection = np.flatnonzero(np.isin(errors.kind, _OF_A_LABEL))
    offsets = box_offsets(errors.labels, errors.detections, errors.label[detection], detection)
    distance = errors.distance_m[detection]
    rows: list[tuple[str, ...]] = []
    medians: list[float | None] = []
    for band, inside in _bands(evaluation, distance).items():
        along, across, _, yaw = offsets[inside].T
        if not len(along):
            rows.append((band, "0", *"------"))
            medians.append(None)
            continue
        off = np.abs(along)
        medians.append(float(np.median(off)))
        numbers = (
            np.median(off), np.quantile(off, 0.9), np.median(100 * off / distance[inside]),
            np.median(np.abs(across)), np.degrees(np.median(np.abs(yaw))),
        )  # fmt: skip
        bias = _signed(float(np.median(along)))
        rows.append((band, str(len(along)), bias, *(f"{number:.2f}" for number in numbers)))
    return tuple(rows), medians[:-1]
