"""Sections of `kd3d-eval report` on single frames: the worst, and a table that links to any."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import label_objects
from kd3d_core.data.labels import Label
from kd3d_core.evaluation.report import Evaluation, Run
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.frame import Scene, draw_frame, legend
from kd3d_core.visual.page import Column, Frame, Part, Section, Strip, Table
from kd3d_core.visual.report import frame_column

_SUREST = 20


@dataclass(frozen=True)
class FramePictures:
    """Where pictures of frames come from.

    Attributes:
        dataset: images and calibration of the frames.
        url: folder with a picture `NAME.jpg` of each frame, as seen from the page; empty: none.
    """

    dataset: KittiDataset
    url: str = ""


def frame_sections(
    evaluation: Evaluation,
    pictures: FramePictures | None,
    most: int,
    advance: Callable[[], None],
) -> list[Section]:
    """The worst frames as a strip, the surest errors, and the number of errors of each frame."""
    errors = evaluation.runs[0].errors
    worst = [] if pictures is None else errors.worst[:most]
    sections = []
    if worst and pictures is not None:
        sections.append(_worst_section(evaluation, worst, pictures.dataset, advance))
    names = evaluation.names
    targets = {names[index]: f"#{quote(names[index])}" for index in worst}
    if pictures is not None and pictures.url:
        targets |= {
            name: f"{pictures.url}/{quote(name)}.jpg" for name in names if name not in targets
        }
    sections.append(_errors_section(evaluation, targets, has_pictures=pictures is not None))
    return sections


def frame_picture(evaluation: Evaluation, index: int, frame: KittiFrame) -> np.ndarray:
    """`(H, W, 3)` RGB of a frame with labels and each run's boxes, one run below the other."""
    scenes = _scenes(evaluation, index, frame)
    return np.vstack([draw_frame(scene, f"{frame.name}, {run.name}") for run, scene in scenes])


def _worst_section(
    evaluation: Evaluation,
    worst: Sequence[int],
    dataset: KittiDataset,
    advance: Callable[[], None],
) -> Section:
    shown = []
    for index in worst:
        name = evaluation.names[index]
        columns: list[Column] = []
        for run, scene in _scenes(evaluation, index, dataset.frame(name)):
            heading = f"{run.name}: {run.errors.not_found[index]} not found"
            heading += f", {run.errors.wrong[index]} wrong"
            columns.append(frame_column(scene, heading))
        shown.append(Frame(name, tuple(columns)))
        advance()
    found = {
        label.type for index in worst for run in evaluation.runs for label in run.detections[index]
    }
    text = (
        f"Frames in which {evaluation.runs[0].name} has most errors: labels not found and "
        f"detections wrong, with scores from {evaluation.min_score:g}, in 3D, level hard, all "
        "classes together."
    )
    strip = Strip(tuple(shown), rate_hz=1.0, legend=legend(sorted(found), has_truth=True))
    return Section("Worst frames", (strip,), text)


def _errors_section(evaluation: Evaluation, targets: dict[str, str], has_pictures: bool) -> Section:
    runs = evaluation.runs
    total = sum(run.errors.wrong + run.errors.not_found for run in runs)
    listed = [
        index for index, name in enumerate(evaluation.names) if total[index] or name in targets
    ]
    if not listed:
        return Section("Errors, frame by frame", (), "There is no frame with an error.")
    order = sorted(listed, key=lambda index: -total[index])
    rows = tuple(
        (
            evaluation.names[index],
            *(
                str(count[index])
                for run in runs
                for count in (run.errors.not_found, run.errors.wrong)
            ),
        )
        for index in order
    )
    heads = [f"{what}, {run.name}" for run in runs for what in ("not found", "wrong")]
    table = Table(("frame", *heads), rows, "Most errors first", _links(rows, targets))
    parts: list[Part] = [_surest(evaluation, runs[0], targets), table]
    text = (
        "Errors as in the sections above; where a frame's name is a link, it leads to its picture."
    )
    if not has_pictures:
        text += " Give --data to see the worst, and --pictures to see any of them."
    return Section("Errors, frame by frame", tuple(parts), text)


def _surest(evaluation: Evaluation, run: Run, targets: dict[str, str]) -> Table:
    errors = run.errors
    wrong = np.flatnonzero(errors.is_wrong)
    found, distance = errors.detections, errors.distance_m
    rows = tuple(
        (
            evaluation.names[found.frame[index]],
            str(found.type[index]),
            f"{found.score[index]:.2f}",
            str(errors.kind[index]),
            f"{distance[index]:.0f} m",
        )
        for index in wrong[np.argsort(-found.score[wrong], kind="stable")][:_SUREST].tolist()
    )
    caption = f"Wrong detections of {run.name} with the highest scores"
    heads = ("frame", "class", "score", "kind", "distance")
    return Table(heads, rows, caption, _links(rows, targets))


def _links(rows: Sequence[tuple[str, ...]], targets: dict[str, str]) -> tuple[str, ...]:
    return tuple(targets.get(row[0], "") for row in rows)


def _scenes(evaluation: Evaluation, index: int, frame: KittiFrame) -> list[tuple[Run, Scene]]:
    """The frame as each run sees it."""
    image, camera = frame.image(), frame.camera()
    points = frame.points_in_view() if frame.has_lidar else np.zeros((0, 4), np.float32)

    def boxes(labels: Sequence[Label]) -> ObjectBoxes:
        return label_objects(labels, camera.lidar_from_camera, index, "velodyne")

    def detected(run: Run) -> ObjectBoxes:
        scored = [(label, label.score or 0.0) for label in run.detections[index]]
        return boxes([label for label, score in scored if score >= evaluation.min_score])

    truth = boxes([label for label in evaluation.ground_truth[index] if label.is_object])
    return [(run, Scene(image, camera, points, detected(run), truth)) for run in evaluation.runs]
