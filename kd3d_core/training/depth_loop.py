"""What a run needs whose depth network learns with the detector."""

from dataclasses import replace

import torch

from kd3d_core.data.depth_view import ViewConfig
from kd3d_core.data.pseudo_cache import PseudoLidarCache
from kd3d_core.depth.build import make_depth
from kd3d_core.depth.model import DepthModel
from kd3d_core.devices import fixed_precision
from kd3d_core.distill.config import DistillConfig
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.distill.depth_learner import DepthLearner
from kd3d_core.errors import ConfigError
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import OwnModelConfig, PseudoLidarModelConfig
from kd3d_core.paths import cache_dir
from kd3d_core.training.caches import with_depth
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.processes import processes


def make_depth_learner(
    config: TrainConfig, model: OwnModelConfig, settings: LearnDepthConfig
) -> tuple[PseudoLidarModelConfig, DepthLearner]:
    """The model's depth network, ready to learn, and the model with the window that it wants.

    `ConfigError` if the model has no depth network, or one whose window follows the image.
    """
    model = with_depth(config, model)
    network, depth = make_depth(model.depth, config.seed)
    if depth.window is None or depth.window.mode == "fit":
        raise ConfigError(
            "depth.window follows the image here, and the images of a batch need one size: with "
            "distill.learn_depth, give the model's depth.window a size and mode crop"
        )
    learner = DepthLearner(network, model.pseudo_lidar, settings)
    return replace(model, depth=depth), learner


def pseudo_lidar_of(
    network: DepthModel, model: OwnModelConfig, device: torch.device
) -> PseudoLidar:
    """From an image to points with such a network, in the precision of `CameraDetector`."""
    assert isinstance(model, PseudoLidarModelConfig)
    precision = fixed_precision("auto", device)
    return PseudoLidar(network.to(device), model.depth, model.pseudo_lidar, precision)


def initial_points(learner: DepthLearner, model: OwnModelConfig) -> PseudoLidarCache:
    """The points that a run begins with: none is on disk, but their digest tells runs apart."""
    chain = pseudo_lidar_of(learner.network, model, processes().device)
    return PseudoLidarCache(cache_dir() / "pseudo_lidar", chain)


def view_config(settings: DistillConfig, model: OwnModelConfig) -> ViewConfig:
    """What the depth network gets of each frame."""
    assert isinstance(model, PseudoLidarModelConfig)
    assert model.depth.window is not None
    assert settings.learn_depth is not None
    keep = model.pseudo_lidar.keep_fraction
    return ViewConfig(model.depth.window, keep, settings.learn_depth.within_px)
