"""`kd3d-eval report`: reads what is to be judged, judges it, and writes the page."""

from collections.abc import Sequence
from pathlib import Path

from kd3d_core.cli.eval import notes
from kd3d_core.data.kitti import KittiDataset, read_split
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.depth import DepthReport, DepthRules, evaluate_depth, stored_depth
from kd3d_core.evaluation.kitti_files import LabelledFrames, read_frames
from kd3d_core.evaluation.kitti_rules import Strictness
from kd3d_core.evaluation.report import break_down, mistakes
from kd3d_core.progress import progress_of
from kd3d_core.visual.evaluation_report import Judged, Run, evaluation_page
from kd3d_core.visual.page import write_page


def write_evaluation(
    *,
    labels: Path,
    detections: tuple[Path, ...],
    out: Path,
    ids: Path | None,
    data: Path | None,
    depth: Path | None,
    iou: Strictness,
    min_score: float,
    bands_m: Sequence[float],
    worst: int,
) -> None:
    """Do what `kd3d_core.cli.eval.report` says; its arguments, with both runs in `detections`."""
    if depth is not None and data is None:
        raise Kd3dError("--depth needs --data: its velodyne is what depth is compared with")
    if worst < 0:
        raise Kd3dError(f"--worst {worst}: there can't be fewer frames than none")
    names = None if ids is None else read_split(ids)
    runs = [read_frames(labels, folder, names) for folder in detections]
    dataset = None if data is None else KittiDataset(data, runs[0].names)
    if dataset is not None:
        dataset.require(("image_2", "calib"))
    judged_runs = []
    with progress_of("judging detections", len(runs)) as step:
        for name, frames in zip(_run_names(detections), runs, strict=True):
            judged_runs.append(_judge(name, frames, iou, min_score, bands_m))
            step()
    depth_report: DepthReport | None = None
    if dataset is not None and depth is not None:
        answers = stored_depth(depth, dataset)
        with progress_of("comparing depth", len(dataset)) as step:
            depth_report = evaluate_depth(dataset, answers, DepthRules(), step)
    judged = Judged(
        runs[0].names, runs[0].ground_truth, tuple(judged_runs), min_score, depth_report
    )
    limits = [
        note
        for folder, run, frames in zip(detections, judged_runs, runs, strict=True)
        for note in notes(frames, run.breakdown.overall, folder, all_frames=ids is None)
    ]
    shown = min(worst, len(judged_runs[0].mistakes.worst))
    with progress_of("drawing the worst frames", shown) as step:
        page = evaluation_page(judged, dataset, worst, list(dict.fromkeys(limits)), step)
    write_page(out, page)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, open it in a browser")


def _judge(
    name: str,
    frames: LabelledFrames,
    iou: Strictness,
    min_score: float,
    bands_m: Sequence[float],
) -> Run:
    truth, found = frames.ground_truth, frames.detections
    return Run(
        name,
        found,
        break_down(truth, found, bands_m, iou),
        mistakes(truth, found, min_score, iou),
    )


def _run_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, with as many above them as tell the runs apart."""
    parts = [folder.resolve().parts for folder in folders]
    if len(parts) > 1 and parts[0] == parts[1]:
        raise Kd3dError(f"{folders[0]}: --detections and --other are the same folder")
    depth = 1
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]
