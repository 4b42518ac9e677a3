"""Evaluating a run: its last weights on the validation frames, by KITTI's AP.

No validation frame decides anything: the weights are those of the last epoch, averaged if the run
averages, and not those of the checkpoint that validated best.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import write_labels
from kd3d_core.data.pseudo_cache import pseudo_lidar_points
from kd3d_core.depth.build import make_depth
from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.model import DepthModel
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.checkpoint import load_tensors
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.errors import WeightsError
from kd3d_core.evaluation.kitti_ap import evaluate_both
from kd3d_core.evaluation.kitti_files import read_frames
from kd3d_core.evaluation.kitti_rules import CLASSES, EVERYTHING, LEVELS, Level
from kd3d_core.evaluation.objects import Objects
from kd3d_core.files import write_json
from kd3d_core.models.config import PseudoLidarModelConfig
from kd3d_core.models.export import export_detector
from kd3d_core.study.history import read_history
from kd3d_core.study.prepare import Prepared
from kd3d_core.study.runs import StudyRun, last_model
from kd3d_core.training import checkpoint, checkpoint_meta
from kd3d_core.training.depth_loop import pseudo_lidar_of
from kd3d_core.training.same_run import recorded_digests
from kd3d_core.training.validation import DetectionFrames

MODERATE = LEVELS.index("moderate")
_PREFIXES = ("detector.network.", "student.network.")
"""Where the tasks that train a detector keep it."""

_DEPTH_PREFIXES = ("depth.network.",)
"""Where a student keeps a depth network that learns with it."""


def evaluate_run(run: StudyRun, prepared: Prepared) -> dict[str, Any]:
    """Detect in the validation frames, and write detections, model and metrics into the folder.

    The run is trained to its end; what is written to `metrics.json` is returned. `Kd3dError` if
    it has no checkpoint, or something can't be written.
    """
    model = prepared.model_of(run)
    detector, points = last_detector(run.folder, model.detector), prepared.points(run)
    depth = None
    if isinstance(model, PseudoLidarModelConfig):
        depth = last_depth(run.folder, model.depth)
    if depth is not None:
        chain = pseudo_lidar_of(depth, model, prepared.device)
        points = partial(pseudo_lidar_points, chain, device=prepared.device)
    export_detector(detector, model, last_model(run.folder).parent, depth)
    frames = DetectionFrames(prepared.val, model.detector, points, run.config.batch_size)
    found = frames.detect(detector.to(prepared.device), prepared.device)
    run.detections.mkdir(exist_ok=True)
    for name, labels in found.items():
        write_labels(run.detections / f"{name}.txt", labels)
    # Read back, so that kd3d-eval says the same to the last digit.
    judged = read_frames(prepared.val.root / "label_2", run.detections, list(found))
    strict, loose = evaluate_both(judged.ground_truth, judged.detections)
    latest = checkpoint_meta.find(run.folder / "latest")
    assert latest is not None, "last_detector has found it"
    meta = checkpoint_meta.read_meta(latest)
    metrics = {
        "ap": {"strict": strict.to_json(), "loose": loose.to_json()},
        "objects": {name: strict.objects[name][MODERATE] for name in CLASSES},
        "beyond_range": beyond_range(prepared.val, detector.grid),
        "frames": len(judged.names),
        "seconds": read_history(run.folder).seconds,
        "steps": meta["step"],
        "epochs": run.config.epochs,
        "revision": meta["revision"],
        "teacher_sha256": recorded_digests(meta).get("teacher"),
    }
    write_json(run.folder / "metrics.json", metrics)
    return metrics


def last_detector(folder: Path, config: DetectorConfig) -> AnchorDetector:
    """The detector of a run's newest checkpoint, with the averaged weights if there are any.

    `WeightsError` if there is no checkpoint, or its tensors aren't the detector's.
    """
    latest, network = _last_tensors(folder, _PREFIXES)
    detector = random_detector(config, 0)
    load_tensors(detector.network, network, latest)
    return detector


def last_depth(folder: Path, config: DepthConfig) -> DepthModel | None:
    """The depth network of a run in which one learns, as of `last_detector`; None of others."""
    _, tensors = _last_tensors(folder, _DEPTH_PREFIXES)
    if not tensors:
        return None
    depth, _ = make_depth(config, 0)
    depth.load_state_dict(tensors)
    return depth


def _last_tensors(folder: Path, prefixes: Sequence[str]) -> tuple[Path, dict[str, torch.Tensor]]:
    """The newest checkpoint, and those of its tensors that begin so, without the prefix."""
    latest = checkpoint_meta.find(folder / "latest")
    if latest is None:
        raise WeightsError(f"{folder} has no checkpoint: the run has not ended a single epoch")
    return latest, {
        name.removeprefix(prefix): value
        for name, value in checkpoint.validated_weights(latest).items()
        for prefix in prefixes
        if name.startswith(prefix)
    }


def beyond_range(frames: KittiDataset, grid: VoxelGrid) -> dict[str, int]:
    """By class, how many objects of the moderate level have their centre beyond a grid's sides."""
    low, high = np.array(grid.point_cloud_range).reshape(2, 3)[:, :2]
    nothing = Objects.from_frames([[]])
    counts = dict.fromkeys(CLASSES, 0)
    for frame in frames:
        labels = frame.objects()
        if not labels:
            continue
        places = label_boxes(labels, frame.camera().lidar_from_camera)[:, :2]
        beyond = ((places < low) | (places >= high)).any(1)
        objects = Objects.from_frames([labels])
        asked = EVERYTHING.asks_for(objects)
        for name in CLASSES:
            level = Level.of(objects, nothing, name, MODERATE, asked)
            counts[name] += int((level.label_counts & beyond).sum())
    return counts
