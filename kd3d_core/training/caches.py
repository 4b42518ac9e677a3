"""What a run computes once and reads from disk afterwards: pseudo-LiDAR, a teacher's answers."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial

from kd3d_core.data.frame_inputs import PointSource, lidar_points, no_points, true_depth_points
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.photometric_config import PhotometricConfig
from kd3d_core.data.pseudo_cache import PseudoLidarCache
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.cache import TeacherCache
from kd3d_core.distill.config import DistillConfig
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.errors import ConfigError
from kd3d_core.models.build import make_pseudo_lidar
from kd3d_core.models.config import OwnModelConfig, PseudoLidarModelConfig
from kd3d_core.paths import cache_dir
from kd3d_core.progress import progress_of
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.processes import processes

log = logging.getLogger(__name__)

_UNCHANGED_WORLD = {"flip": 0.0, "rotation": 0.0, "scale": (1.0, 1.0)}
_UNCHANGED_IMAGE = {
    "image_scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0, "saturation": 0.0,
    "pitch": 0.0, "roll": 0.0, "photometric": PhotometricConfig(),
}  # fmt: skip


def point_source(
    config: TrainConfig, model: OwnModelConfig, data_sets: Sequence[KittiDataset], keep: bool
) -> PointSource:
    """What gives a detector its points: true LiDAR, or the pseudo-LiDAR of the model.

    Args:
        config: settings of the run.
        model: the model whose detector reads the points; `ConfigError` if it makes no pseudo-LiDAR
            and some is asked for.
        data_sets: all frames whose points will be needed.
        keep: whether pseudo-LiDAR is computed now and kept on disk, or when it is asked for.
    """
    if config.points == "lidar":
        return no_points if model.detector.reads_image_alone else lidar_points
    if config.points == "true_depth":
        return assistant_points(config, model)
    model = with_depth(config, model)
    if model.depth.weights == "random":
        log.warning("the depth network is UNTRAINED: its pseudo-LiDAR is noise")
    device = processes().device
    # In the precision that `CameraDetector` chooses: the student gets the clouds it learnt from.
    pseudo_lidar = make_pseudo_lidar(model, device, seed=config.seed)
    cache = PseudoLidarCache(cache_dir() / "pseudo_lidar", pseudo_lidar)
    if not keep:
        return partial(cache.cloud, device=device)
    for frames in data_sets:
        fill_together(
            "pseudo-LiDAR", frames, lambda share, on_frame: cache.fill(share, device, on_frame)
        )
    cache.release()
    return cache


def with_depth(config: TrainConfig, model: OwnModelConfig) -> PseudoLidarModelConfig:
    """The model of a run, whose points need its depth network; `ConfigError` if it has none."""
    if not isinstance(model, PseudoLidarModelConfig):
        raise ConfigError(
            f"points is {config.points}, and the model {config.model} is of type {model.type}, "
            "which makes no pseudo-LiDAR: give a model of type pseudo_lidar, or set points to lidar"
        )
    return model


def assistant_points(config: TrainConfig, model: OwnModelConfig) -> PointSource:
    """What gives a teaching assistant its points, at the pixels of a model's pseudo-LiDAR."""
    model = with_depth(config, model)
    window = model.depth.window
    if window is None:
        raise ConfigError(
            f"points of true_depth need depth.window, and the model {config.model} has none: give "
            "it a size and mode crop"
        )
    learnt = config.distill.learn_depth if config.distill is not None else None
    within_px = (learnt or LearnDepthConfig()).within_px
    return true_depth_points(window, model.pseudo_lidar, within_px)


def teacher_answers(
    detector: AnchorDetector,
    config: DetectorConfig,
    points: PointSource,
    data_sets: Sequence[KittiDataset],
    settings: DistillConfig,
) -> TeacherCache:
    """The answers of a teacher to all frames, made where they aren't on disk yet.

    It was built from `config` and may be forgotten afterwards. `settings` say what is compared.
    """
    here = processes()
    cache = TeacherCache(cache_dir() / "teacher", detector, config, points, settings, here.device)

    def fill(share: KittiDataset, on_frame: Callable[[], None]) -> None:
        made = cache.fill(share, detector, here.num_processes, on_frame)
        log.info("the teacher answered %d of %d frames; the rest was there", made, len(share))

    for frames in data_sets:
        fill_together("teacher", frames, fill)
    return cache


def can_keep_answers(config: TrainConfig, teacher: AnchorDetector) -> bool:
    """Whether a teacher's answers are to be kept, and can be; warns if they can't."""
    assert config.teacher is not None
    learns_depth = config.distill is not None and config.distill.learn_depth is not None
    # The student's pixels, which are drawn anew in each step, are the assistant's too.
    changes = ["learn_depth"] if learns_depth and config.teacher.points == "true_depth" else []
    unchanged = {**_UNCHANGED_WORLD, **(_UNCHANGED_IMAGE if teacher.reads_image else {})}
    of_sets = (config.augment, *(extra.augment for extra in config.data.extra))
    changes += [
        name
        for name, value in unchanged.items()
        if any(augment is not None and getattr(augment, name) != value for augment in of_sets)
    ]
    if config.teacher.cache and changes:
        log.warning(
            "teacher.cache is off: what the teacher sees changes in every epoch (%s); it is asked "
            "in every step", ", ".join(changes),
        )  # fmt: skip
    return config.teacher.cache and not changes


def fill_together(
    what: str,
    frames: KittiDataset,
    fill: Callable[[KittiDataset, Callable[[], None]], object],
) -> None:
    """Let every process fill a cache for its share of the frames, and wait for the others.

    Machines may have a disk in common or not, so with several of them each then looks for what its
    own disk still lacks. `fill` makes what isn't there yet for some frames, and calls its second
    argument after each; `what` names the progress bar.
    """
    here = processes()
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", here.num_processes))
    shares = [(here.process_index, here.num_processes)]
    if beside < here.num_processes:
        shares.append((here.local_process_index, beside))
    for first, every in shares:
        names = frames.names[first::every]
        with progress_of(what, len(names), here.is_main_process) as step:
            if names:
                fill(frames.subset(names), step)
        here.wait_for_everyone()
