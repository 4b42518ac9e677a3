"""What runs need, checked in a moment: folders, lists and weights, before torch is loaded."""

from collections.abc import Sequence

from kd3d_core.errors import ConfigError
from kd3d_core.models.config import load_model_config, own_model
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.data import run_data
from kd3d_core.training.same_run import check_settings
from kd3d_core.training.stages import Stage
from kd3d_core.weights import resolve


def check_stages(stages: Sequence[Stage]) -> None:
    """Refuse runs that can't begin, as far as files tell; networks and frames aren't loaded."""
    for stage in stages:
        check_settings(stage.config)
        _check_needs(stage.ahead)


def _check_needs(config: TrainConfig) -> None:
    found = own_model(load_model_config(config.model), config.model).weights
    points = {config.points}
    weights = []
    if config.teacher is not None:
        teacher = own_model(load_model_config(config.teacher.model), config.teacher.model).detector
        weights.append(config.teacher.weights or teacher.weights)
        points.add(config.teacher.points)
    if config.task != "depth":
        weights.append(found["detector"])
    if config.task == "depth" or "pseudo" in points:
        weights.append(found.get("depth", "random"))
    for name in weights:
        if name != "random":
            resolve(name)
    data = run_data(config.data)
    for frames in data.all_frames:
        frames.require(("image_2", "calib"))
        if config.task == "depth":
            frames.require_lidar()
    if config.task != "detector" and config.augment and config.augment.sample_objects:
        raise ConfigError(
            f"augment.sample_objects must be empty for task {config.task}: the image shows none of "
            "the objects that are pasted in"
        )
    if config.task == "detector" and any(not part.use_labels for part in data.train):
        raise ConfigError(
            "data.extra has use_labels: false, and task detector learns from labels alone: use "
            "task distill, whose teacher stands in for them"
        )
