"""`kd3d-eval report`: reads labels and detections, evaluates them, and writes the page."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.splits import read_split
from kd3d_core.devices import usable_device
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.depth import (
    DepthReport,
    DepthRules,
    evaluate_depth,
    model_depth,
    stored_depth,
)
from kd3d_core.evaluation.error_gains import ap_gains
from kd3d_core.evaluation.error_kinds import explain
from kd3d_core.evaluation.kitti_files import LabelledFrames, read_frames
from kd3d_core.evaluation.kitti_rules import Strictness
from kd3d_core.evaluation.notes import ap_notes
from kd3d_core.evaluation.report import Evaluation, Run, break_down
from kd3d_core.files import write_whole
from kd3d_core.progress import progress_of
from kd3d_core.visual.evaluation_frames import FramePictures, frame_picture
from kd3d_core.visual.evaluation_report import evaluation_page
from kd3d_core.visual.page import Picture, write_page


@dataclass(frozen=True)
class RunFiles:
    """Files of a run to evaluate.

    Attributes:
        detections: folder of detection files.
        depth: folder of depth maps, if they are to be evaluated.
        model: instead, name or file of a model that predicts them.
    """

    detections: Path
    depth: Path | None = None
    model: str | None = None

    @property
    def has_depth(self) -> bool:
        """Whether there is depth to evaluate."""
        return self.depth is not None or self.model is not None


def write_evaluation(
    *,
    labels: Path,
    runs: Sequence[RunFiles],
    out: Path,
    ids: Path | None,
    data: Path | None,
    device: str,
    iou: Strictness,
    min_score: float,
    bands_m: Sequence[float],
    worst: int,
    pictures: Path | None,
) -> None:
    """Write the page of `kd3d_core.cli.eval.report`.

    Args:
        runs: one, or two to compare.
        labels, out, ids, data, device, iou, min_score, bands_m, worst, pictures: as there.

    Raises:
        Kd3dError: the arguments contradict each other, or a file is missing or malformed.
    """
    for run in runs:
        if run.depth is not None and run.model is not None:
            raise Kd3dError(
                f"depth of {run.detections}: give a folder of maps or a model, not both"
            )
        if run.has_depth and data is None:
            raise Kd3dError("depth needs --data: it is compared with the velodyne there")
    if worst < 0:
        raise Kd3dError(f"--worst {worst}: give a number of frames, 0 or more")
    if pictures is not None and data is None:
        raise Kd3dError("--pictures needs --data: the images are there")
    names = None if ids is None else read_split(ids)
    run_names = _run_names([run.detections for run in runs])
    files = [read_frames(labels, run.detections, names) for run in runs]
    dataset = None if data is None else KittiDataset(data, files[0].names)
    depths: list[DepthReport | None] = [None] * len(runs)
    if dataset is not None:
        dataset.require(("image_2", "calib"))
        depths = _depth_reports(dataset, runs, device)
    evaluated = []
    with progress_of("evaluating detections", len(runs)) as step:
        for name, frames, depth in zip(run_names, files, depths, strict=True):
            evaluated.append(evaluate_run(name, frames, depth, iou, min_score, bands_m))
            step()
    evaluation = Evaluation(
        files[0].names, files[0].ground_truth, tuple(evaluated), min_score, tuple(bands_m)
    )
    notes = []
    for run, frames, result in zip(runs, files, evaluated, strict=True):
        notes += ap_notes(frames, result.breakdown.overall, run.detections, all_frames=ids is None)
        if result.depth is not None:
            notes += [f"{result.name}: {note}" for note in result.depth.notes]
    source = None
    if dataset is not None:
        url = "" if pictures is None else _url(pictures, out.parent)
        source = FramePictures(dataset, url)
        if pictures is not None:
            _write_pictures(evaluation, dataset, pictures)
    shown = min(worst, len(evaluated[0].errors.worst))
    with progress_of("drawing the worst frames", shown) as step:
        page = evaluation_page(evaluation, source, worst, list(dict.fromkeys(notes)), step)
    write_page(out, page)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")


def _url(folder: Path, page_folder: Path) -> str:
    """Address of a folder as seen from a page."""
    return quote(Path(os.path.relpath(folder, page_folder)).as_posix())


def _write_pictures(evaluation: Evaluation, dataset: KittiDataset, folder: Path) -> None:
    with progress_of(f"drawing frames into {folder}", len(evaluation.names)) as step:
        for index, name in enumerate(evaluation.names):
            picture = frame_picture(evaluation, index, dataset.frame(name))
            write_whole(folder / f"{name}.jpg", Picture.encode(picture, name).jpeg)
            step()


def _depth_reports(
    dataset: KittiDataset, runs: Sequence[RunFiles], device: str
) -> list[DepthReport | None]:
    answers = [_depth(dataset, run, device) if run.has_depth else None for run in runs]
    total = len(dataset) * sum(answer is not None for answer in answers)
    if not total:
        return [None] * len(runs)
    with progress_of("comparing depth", total) as step:
        return [
            None if answer is None else evaluate_depth(dataset, answer, DepthRules(), step)
            for answer in answers
        ]


def _depth(dataset: KittiDataset, run: RunFiles, device: str) -> Callable[[KittiFrame], np.ndarray]:
    if run.model is not None:
        return model_depth(run.model, torch.device(usable_device(device)))
    assert run.depth is not None, "RunFiles.has_depth has been asked"
    return stored_depth(run.depth, dataset)


def evaluate_run(
    name: str,
    frames: LabelledFrames,
    depth: DepthReport | None,
    iou: Strictness,
    min_score: float,
    bands_m: Sequence[float],
) -> Run:
    """A run's AP and kinds of errors; see `kd3d_core.cli.eval.report` for the arguments."""
    truth, found = frames.ground_truth, frames.detections
    return Run(
        name,
        found,
        break_down(truth, found, bands_m, iou),
        explain(truth, found, min_score, iou),
        ap_gains(truth, found, iou),
        depth,
    )


def _run_names(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, with as many of their parents as make them differ."""
    parts = [folder.resolve().parts for folder in folders]
    if len(parts) > 1 and parts[0] == parts[1]:
        raise Kd3dError(f"{folders[0]}: --detections and --other are the same folder")
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]
