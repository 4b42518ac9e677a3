"""`kd3d-eval`: detections by KITTI's average precision, tracks, and depth maps against LiDAR."""

import json as jsonlib
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kd3d_core.cli.app import run
from kd3d_core.cli.check import check
from kd3d_core.cli.eval_tracking import tracking
from kd3d_core.cli.table import print_table
from kd3d_core.errors import Kd3dError
from kd3d_core.files import write_whole

if TYPE_CHECKING:
    from kd3d_core.evaluation.depth import DepthReport
    from kd3d_core.evaluation.kitti_ap import KittiAP

log = logging.getLogger(__name__)


def kitti(
    *,
    labels: Path,
    detections: Path,
    ids: Path | None = None,
    iou: Literal["strict", "loose"] = "strict",
    json: Path | None = None,
) -> None:
    """Average precision of detections, with the rules of the official devkit.

    With `--iou loose` also the scores from which on showing detections is best, as a model's card
    in `model.yaml` has them.

    Args:
        labels: folder of label files, one per frame.
        detections: folder of detection files; a frame without one has no detections.
        ids: file that lists the frames to evaluate; default: all that have labels.
        iou: strict asks for 0.7 (car) and 0.5 (others), as KITTI does; loose for 0.5 and 0.25 in
            bev and 3d.
        json: write the result to this file too.
    """
    from kd3d_core.classes import BENCHMARK_CLASSES
    from kd3d_core.data.splits import read_split
    from kd3d_core.evaluation.kitti_ap import evaluate
    from kd3d_core.evaluation.kitti_files import read_frames
    from kd3d_core.evaluation.notes import ap_notes
    from kd3d_core.evaluation.thresholds import best_thresholds

    frames = read_frames(labels, detections, None if ids is None else read_split(ids))
    result = evaluate(frames.ground_truth, frames.detections, iou)
    _print_ap(result)
    if iou == "loose":
        best = best_thresholds(frames.ground_truth, frames.detections, BENCHMARK_CLASSES)
        scores = ", ".join(f"{name} {score:g}" for name, score in best.items()) or "none"
        print(f"\nscore thresholds with the best F1 (3d, moderate): {scores}")
    for note in ap_notes(frames, result, detections, all_frames=ids is None):
        print(f"note: {note}")
    if json is not None:
        _write_json(json, result.to_json())


def depth(
    *,
    data: Path,
    predictions: Path | None = None,
    model: str | None = None,
    device: str = "auto",
    ids: Path | None = None,
    crop: Literal["garg", "eigen", "none"] = "garg",
    cap: float = 80.0,
    min_depth: float = 1e-3,
    bands: list[str] = ["0", "10", "20", "40", "80"],  # noqa: B006 - never changed
    json: Path | None = None,
) -> None:
    """Errors of depth maps against the velodyne, projected into the image.

    Args:
        data: data set in KITTI's layout, or its `training` folder.
        predictions: folder of depth maps as large as the images: 16-bit PNG with 256 units per
            metre, or .npy in metres.
        model: instead, a model that predicts them: a name in config/models or weights, or a YAML
            file.
        device: of the model: auto, cpu, cuda or cuda:N.
        ids: file that lists the frames to evaluate; default: all of the data set.
        crop: part of the image that is compared, as in the papers of Garg and Eigen.
        cap: largest true depth that counts, metres; predictions are clipped to it.
        min_depth: smallest true depth that counts, metres.
        bands: borders of the distance bands that are reported one by one, metres.
        json: write the result to this file too.
    """
    import torch

    from kd3d_core.data.calibration_check import few_samples, warn_if_calibration_looks_wrong
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.data.splits import read_split
    from kd3d_core.devices import usable_device
    from kd3d_core.evaluation.depth import (
        DepthRules,
        evaluate_depth,
        model_depth,
        stored_depth,
    )
    from kd3d_core.progress import progress_of

    if (predictions is None) == (model is None):
        raise Kd3dError("give either --predictions, a folder of depth maps, or --model")
    rules = DepthRules(crop, cap, min_depth, tuple(metres(word) for word in bands))
    dataset = KittiDataset(data, None if ids is None else read_split(ids))
    if model is not None:
        answers = model_depth(model, torch.device(usable_device(device)))
    else:
        assert predictions is not None
        answers = stored_depth(predictions, dataset)
    warn_if_calibration_looks_wrong(few_samples(dataset), log.warning)
    with progress_of("comparing depth", len(dataset)) as step:
        report = evaluate_depth(dataset, answers, rules, step)
    _print_depth(report)
    if json is not None:
        _write_json(json, report.to_json())


def report(
    *,
    labels: Path,
    detections: Path,
    out: Path,
    ids: Path | None = None,
    data: Path | None = None,
    depth: Path | None = None,
    model: str | None = None,
    other: Path | None = None,
    other_depth: Path | None = None,
    other_model: str | None = None,
    device: str = "auto",
    iou: Literal["strict", "loose"] = "strict",
    score_threshold: float = 0.3,
    bands: list[str] = ["0", "20", "40", "60"],  # noqa: B006 - never changed
    worst: int = 12,
    pictures: Path | None = None,
) -> None:
    """A page of HTML on the strengths and weaknesses of a detector.

    Args:
        labels: folder of label files, one per frame.
        detections: folder of detection files; a frame without one has no detections.
        out: the page, one file that needs no network.
        ids: file that lists the frames to evaluate; default: all that have labels.
        data: data set in KITTI's layout with the same frames, for pictures of the worst.
        depth: folder of depth maps, compared with the velodyne of --data.
        model: instead, a model that predicts depth: a name in config/models or weights, or a YAML
            file.
        other: folder of detection files of a second run, to be shown beside the first.
        other_depth: folder of the second run's depth maps.
        other_model: instead, the second run's model.
        device: of the models: auto, cpu, cuda or cuda:N.
        iou: set of least overlaps, as in `kd3d-eval kitti`.
        score_threshold: detections with lower scores are not counted as errors and not drawn; AP
            takes all.
        bands: borders of the distance bands that are reported one by one, metres.
        worst: number of frames with most errors that the page shows.
        pictures: folder for a picture of every frame, which the page's tables link to.
    """
    from kd3d_core.cli.eval_report import RunFiles, write_evaluation

    runs = [RunFiles(detections, depth, model)]
    if other is not None:
        runs.append(RunFiles(other, other_depth, other_model))
    elif other_depth is not None or other_model is not None:
        raise Kd3dError("--other-depth and --other-model need --other: the run they belong to")
    write_evaluation(
        labels=labels,
        runs=runs,
        out=out,
        ids=ids,
        data=data,
        device=device,
        iou=iou,
        min_score=score_threshold,
        bands_m=tuple(metres(word) for word in bands),
        worst=worst,
        pictures=pictures,
    )


def errors(
    *,
    labels: Path,
    detections: Path,
    origin: str,
    ids: Path | None = None,
    model: str | None = None,
    score_threshold: float | None = None,
    borders: list[str] = ["10", "20", "30", "40", "60", "80"],  # noqa: B006 - never changed
    fewest: int = 20,
) -> None:
    """How far boxes are off, by their distance, as lines for the card in `model.yaml`.

    The node makes the covariance of poses of them.

    Args:
        labels: folder of label files, one per frame: frames that the model was not trained on.
        detections: folder of detection files; a frame without one has no detections.
        origin: description of these frames in a few words, for the model's card.
        ids: file that lists the frames to evaluate; default: all that have labels.
        model: whose thresholds choose the detections: a name in config/models or weights, or a YAML
            file.
        score_threshold: one for all classes instead; with neither, all detections count.
        borders: distances over ground at which rows end, metres.
        fewest: boxes that a row needs; one that has fewer goes into the next.
    """
    from kd3d_core.classes import BENCHMARK_CLASSES
    from kd3d_core.config import plain, yaml_text
    from kd3d_core.data.splits import read_split
    from kd3d_core.evaluation.box_errors import measure_box_errors
    from kd3d_core.evaluation.kitti_files import read_frames

    distances = [metres(word, "borders") for word in borders]
    if distances != sorted(set(distances)) or distances[0] <= 0:
        raise Kd3dError(f"--borders {' '.join(borders)}: give rising distances")
    thresholds: dict[str, float] = {}
    if score_threshold is not None:
        thresholds = dict.fromkeys(BENCHMARK_CLASSES, score_threshold)
    elif model is not None:
        from kd3d_core.models.config import load_model_config

        thresholds = load_model_config(model).card.score_thresholds
    frames = read_frames(labels, detections, None if ids is None else read_split(ids))
    rows = measure_box_errors(frames.ground_truth, frames.detections, thresholds, distances, fewest)
    card = {"box_errors": plain(rows), "box_errors_from": origin}
    print(yaml_text({"card": card}), end="")


def metres(word: str, option: str = "bands") -> float:
    """A word of an option as a number; `Kd3dError` names the option."""
    try:
        return float(word)
    except ValueError:
        raise Kd3dError(
            f"--{option} {word}: write metres, for example --{option} 10 20 40"
        ) from None


def _print_ap(result: "KittiAP") -> None:
    from kd3d_core.evaluation.kitti_ap import LEVELS, min_overlap

    print(f"{result.frames} frames, {result.iou} IoU, AP in percent")
    heads = [f"{kind} {level}" for kind in ("R40", "R11") for level in LEVELS]
    rows: list[tuple[str, ...]] = [("class", "metric", "IoU", *heads)]
    for name, curves in result.curves.items():
        for metric, curve in curves.items():
            values = ["-" if math.isnan(ap) else f"{ap:.2f}" for ap in curve.r40 + curve.r11]
            rows.append((name, metric, f"{min_overlap(result.iou, name, metric):g}", *values))
    print_table(rows)
    print()
    counts = [(name, *map(str, numbers)) for name, numbers in result.objects.items()]
    print_table([("objects", *LEVELS), *counts])


def _print_depth(report: "DepthReport") -> None:
    from kd3d_core.depth.metrics import MEASURES

    rules = report.rules
    print(
        f"{report.frames} frames, crop {rules.crop}, truth {rules.min_depth:g} to {rules.cap:g} m"
    )
    for title, count, errors in (
        ("mean over images of each image's value (as in papers)", "images", "per_image"),
        ("all pixels together", "pixels", "per_pixel"),
    ):
        print(f"\n{title}:")
        rows = [
            (name, str(getattr(each, count)), *map(_number, getattr(each, errors).values()))
            for name, each in report.scores.items()
        ]
        print_table([("metres", count, *MEASURES), *rows])
    for note in report.notes:
        print(f"\nnote: {note}")


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _write_json(path: Path, content: Any) -> None:
    write_whole(path, (jsonlib.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def main() -> int:
    """Entry point."""
    return run(
        {
            "kitti": kitti,
            "depth": depth,
            "report": report,
            "errors": errors,
            "tracking": tracking,
            "check": check,
        },
        prog="kd3d-eval",
        description=(
            "Evaluate detections, tracks and depth maps with the metrics that papers report."
        ),
        examples=[
            "kd3d-eval kitti --labels data/kitti/training/label_2 --detections out/detections",
            "kd3d-eval kitti --labels LABELS --detections DETECTIONS --ids val.txt --json ap.json",
            "kd3d-eval kitti --labels LABELS --detections DETECTIONS --iou loose",
            "kd3d-eval depth --data data/kitti --predictions out/depth --crop eigen --cap 50",
            "kd3d-eval depth --data data/kitti --model demo",
            "kd3d-eval report --labels LABELS --detections RUN --data data/kitti --model demo "
            "--out report.html",
            "kd3d-eval report --labels LABELS --detections RUN --other RUN2 --out both.html",
            "kd3d-eval tracking --labels data/kitti/training/label_02 --tracks out/tracks",
            "kd3d-eval errors --labels LABELS --detections RUN --model demo --origin 'my garage'",
            "kd3d-eval check data/kitti --every 100 --html calibration.html",
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
