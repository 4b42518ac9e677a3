"""Makes the task that a configuration asks for: models, frames, points."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from kd3d_core.data.kitti import KittiDataset, KittiFrame, listed_frames
from kd3d_core.data.object_sampling import ObjectSampler, make_sampler
from kd3d_core.data.pseudo_cache import PseudoLidarCache
from kd3d_core.data.samples import PointSource
from kd3d_core.depth.build import make_depth
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.build import load_detector, untrained_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.second import PointDetector
from kd3d_core.distill.config import TeacherConfig
from kd3d_core.errors import ConfigError
from kd3d_core.evaluation.kitti_rules import CLASSES
from kd3d_core.paths import cache_dir
from kd3d_core.progress import progress_of
from kd3d_core.runtime.model_config import ModelConfig, load_model_config
from kd3d_core.training.config import DataConfig, TrainConfig
from kd3d_core.training.depth_task import DepthTask
from kd3d_core.training.detector_task import DetectorTask
from kd3d_core.training.distill_task import DistillTask
from kd3d_core.training.filling import fill_together
from kd3d_core.training.loop import Task, processes
from kd3d_core.weights import resolve

log = logging.getLogger(__name__)


def make_task(config: TrainConfig, keep: bool = True) -> Task:
    """The task of a configuration.

    Args:
        config: of the run.
        keep: whether what is computed once (pseudo-LiDAR, a teacher's answers) is computed now and
            kept on disk; without, nothing is written, and frames compute what they need.

    Raises:
        Kd3dError: data or weights are missing or don't fit.
    """
    if not keep and config.teacher is not None:
        config = replace(config, teacher=replace(config.teacher, cache=False))
    model = load_model_config(config.model)
    train, val = _frames(config.data)
    if config.task == "depth":
        depth, depth_config = make_depth(model.depth, config.seed)
        return DepthTask(config, replace(model, depth=depth_config), depth, train, val)
    _check_classes(model.detector.classes)
    detector = _detector(model.detector, config.seed)
    make_points = partial(_points, config, model, (train, val), keep)
    if config.teacher is not None:
        taught_by, teacher = load_teacher(config.teacher, config.seed)
        return DistillTask(config, model, detector, taught_by, teacher, make_points, train, val)
    sampler = _sampler(config, detector, model.detector.classes, train, keep)
    return DetectorTask(config, model, detector, make_points, train, val, sampler)


def _check_classes(classes: Sequence[str]) -> None:
    if unknown := [name for name in classes if name.lower() not in CLASSES]:
        raise ConfigError(
            f"detector.classes has {unknown[0]}: KITTI's evaluation, which validates the run, "
            f"knows {', '.join(CLASSES)}"
        )


def _detector(config: DetectorConfig, seed: int) -> AnchorDetector:
    if config.weights == "random":
        return untrained_detector(config, seed)
    return load_detector(resolve(config.weights), config)


def load_teacher(teacher: TeacherConfig, seed: int) -> tuple[DetectorConfig, AnchorDetector]:
    """What a teacher is, and its detector with its weights.

    Args:
        teacher: who.
        seed: of weights that are `random`.

    Raises:
        Kd3dError: its model or weights are missing or don't fit.
    """
    detector = load_model_config(teacher.model).detector
    detector = replace(detector, weights=teacher.weights or detector.weights)
    if detector.weights == "random":
        log.warning("the teacher is UNTRAINED: what it teaches is noise")
    return detector, _detector(detector, seed)


def _frames(config: DataConfig) -> tuple[KittiDataset, KittiDataset]:
    val_root = config.val_root or config.root
    train = KittiDataset(config.root, listed_frames(config.train, config.root))
    if config.val is None and config.val_root is None:
        log.warning("no validation frames are named: validating on those that are trained on")
        return train, train
    return train, KittiDataset(val_root, listed_frames(config.val, val_root))


def _points(
    config: TrainConfig, model: ModelConfig, data_sets: Iterable[KittiDataset], keep: bool
) -> PointSource:
    if config.points == "lidar":
        return KittiFrame.points_in_view
    if model.depth.weights == "random":
        log.warning("the depth network is UNTRAINED: its pseudo-LiDAR is noise")
    here = processes()
    depth, depth_config = make_depth(model.depth, config.seed)
    depth = depth.to(here.device)
    cache = PseudoLidarCache(cache_dir() / "pseudo_lidar", depth, depth_config, model.pseudo_lidar)
    if not keep:
        return partial(cache.cloud, depth=depth, device=here.device)
    for frames in data_sets:
        fill_together(
            "pseudo-LiDAR",
            frames,
            lambda share, on_frame: cache.fill(share, depth, here.device, on_frame),
        )
    return cache


def _sampler(
    config: TrainConfig,
    detector: AnchorDetector,
    classes: Sequence[str],
    train: KittiDataset,
    keep: bool,
) -> ObjectSampler | None:
    augment = config.augment
    if augment is None or not augment.sample_objects:
        return None
    if config.points != "lidar" or not isinstance(detector, PointDetector):
        raise ConfigError(
            "augment.sample_objects needs points: lidar and a detector that reads points alone "
            "(second, pointpillars): the image shows none of the objects that are pasted in"
        )
    # One cuts them out, the others find them on disk.
    folder = nullcontext(cache_dir() / "objects") if keep else TemporaryDirectory()
    with (
        processes().main_process_first(),
        progress_of("objects to sample", len(train)) as step,
        folder as path,
    ):
        return make_sampler(
            Path(path), train, classes, augment.sample_objects, augment.min_object_points, step
        )
