"""Builds models from their configurations."""

from dataclasses import replace
from pathlib import Path

import torch

from kd3d_core.depth.build import make_depth
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.build import load_detector, random_detector, untrained_detector
from kd3d_core.detectors.cmkd.student import CmkdDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.mono3d.detector import make_mono3d
from kd3d_core.devices import Precision, cast_weights, fixed_precision
from kd3d_core.models.chain import CmkdModel, LidarModel, Model, PseudoLidarModel
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import (
    CmkdModelConfig,
    ExportableConfig,
    LidarModelConfig,
    ModelConfig,
    Mono3dModelConfig,
    PseudoLidarModelConfig,
    load_model_config,
)
from kd3d_core.models.engines.load import load_parts
from kd3d_core.models.engines.parts import detector_parts, put_detector_parts
from kd3d_core.models.mono3d import Mono3dModel
from kd3d_core.weights import resolve


def load_model(model: Path | str, device: torch.device, precision: Precision = "auto") -> Model:
    """The model of a name or YAML file; see `make_model`."""
    return make_model(load_model_config(model), device, precision)


def make_model(config: ModelConfig, device: torch.device, precision: Precision = "auto") -> Model:
    """A model with its weights, on a device, in eval mode and in its precision.

    Parts that an engine computes take the place of torch's; nothing else knows of engines.

    Raises:
        ConfigError: the engine isn't installed, can't compute on the device or in the precision, or
            was made for another model.
        WeightsError: weights are missing or don't fit; says which command gets them.
    """
    if isinstance(config, Mono3dModelConfig):
        weights = config.detector.weights
        file = None if weights == "random" else resolve(weights)
        made = make_mono3d(config.detector, file, config.seed).to(device)
        return Mono3dModel(config, made, precision)
    if isinstance(config, PseudoLidarModelConfig):
        chain = make_pseudo_lidar(config, device, precision)
        cast_weights(chain.network, chain.precision)
    fixed = fixed_precision(precision, device)
    detector = make_detector(config.detector, config.seed).to(device)
    cast_weights(detector, fixed)
    if isinstance(config, LidarModelConfig):
        return LidarModel(config, detector, fixed)
    if isinstance(config, ExportableConfig) and config.engine is not None:
        windows = dict.fromkeys(detector_parts(detector)) | {"image": config.detector.window}
        put_detector_parts(detector, load_parts(config, windows, device, precision))
    if isinstance(config, CmkdModelConfig):
        assert isinstance(detector, CmkdDetector), "the configuration has checked the type"
        return CmkdModel(config, detector, fixed)
    return PseudoLidarModel(replace(config, depth=chain.config), chain, detector)


def make_pseudo_lidar(
    config: PseudoLidarModelConfig,
    device: torch.device,
    precision: Precision = "auto",
    seed: int | None = None,
) -> PseudoLidar:
    """What makes a model's pseudo-LiDAR; see `make_model`.

    `seed` draws weights that are `random`; default: the model's.
    """
    fixed = fixed_precision(precision, device)
    if config.engine is not None:
        parts = load_parts(config, {"depth": config.depth.window}, device, precision)
        return PseudoLidar(parts["depth"], config.depth, config.pseudo_lidar, fixed)
    network, depth = make_depth(config.depth, config.seed if seed is None else seed)
    return PseudoLidar(network.to(device), depth, config.pseudo_lidar, fixed)


def make_detector(config: DetectorConfig, seed: int, to_train: bool = False) -> AnchorDetector:
    """A detector with the weights that its configuration names; `seed` draws `random` ones.

    `to_train` draws them as training wants to begin, and not so that boxes come out.
    """
    if config.weights != "random":
        return load_detector(resolve(config.weights), config)
    return (untrained_detector if to_train else random_detector)(config, seed)
