"""Builds a detector from its configuration and fills it with weights."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from mmengine.logging import MMLogger
from torch import nn

from kd3d_core.detectors.decode import DecodeConfig
from kd3d_core.detectors.mvxnet import KITTI_CLASSES, FusionDetector
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.window import WindowConfig


@dataclass(frozen=True)
class DetectorConfig:
    """A detector.

    Attributes:
        type: which design.
        weights: a name from `config/weights.yaml`, a `.safetensors` or mmdet3d `.pth` file, or
            `random`.
        window: what the detector sees of the image.
        classes: class names in the order of the labels.
        decoding: thresholds and counts.
    """

    type: Literal["mvxnet", "lite"]
    weights: str
    window: WindowConfig
    classes: tuple[str, ...] = KITTI_CLASSES
    decoding: DecodeConfig = field(default_factory=DecodeConfig)


def random_detector(config: DetectorConfig, seed: int) -> FusionDetector:
    """A detector with weights drawn from `seed`; its boxes mean nothing.

    Scores lie around 0.5 (no prior for rare objects is set), so that boxes pass through every
    later step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FusionDetector(_model_config(config), config.decoding).eval()


def untrained_detector(config: DetectorConfig, seed: int) -> FusionDetector:
    """A detector to train from nothing, with the weights that its parts ask for at first."""
    detector = random_detector(config, seed)
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # it lists every tensor
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector.network.init_weights()
    return detector


def load_detector(path: Path, config: DetectorConfig) -> FusionDetector:
    """A detector with the weights of a file; every tensor must fit.

    Raises:
        WeightsError: the file can't be read, or its tensors aren't the model's.
    """
    detector = FusionDetector(_model_config(config), config.decoding).eval()
    load_tensors(detector.network, read_tensors(path), path)
    return detector


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a `.safetensors` file, or of a `.pth` without running its pickles."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path} can't be read as weights: {reason}") from None
    stored = stored.get("state_dict", stored)
    return {name: value for name, value in stored.items() if isinstance(value, torch.Tensor)}


def load_tensors(network: nn.Module, tensors: dict[str, torch.Tensor], source: Path) -> None:
    """Fill `network`, and refuse tensors that are missing, unknown or of another shape."""
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if problems:
        raise WeightsError(
            f"{source} doesn't fit the model, {len(problems)} tensors differ: "
            + "; ".join(problems[:5])
        )
    network.load_state_dict(tensors)


def _model_config(config: DetectorConfig):
    from kd3d_core.detectors.lite import lite_config
    from kd3d_core.detectors.mvxnet import mvxnet_config

    model = {"mvxnet": mvxnet_config, "lite": lite_config}[config.type]()
    if len(config.classes) != model.pts_bbox_head.num_classes:
        raise ConfigError(
            f"{config.type} has anchors for {model.pts_bbox_head.num_classes} classes "
            f"({', '.join(KITTI_CLASSES)}), the configuration names {len(config.classes)}"
        )
    return model
