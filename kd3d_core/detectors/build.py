"""Builds a detector from its configuration and fills it with weights."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from mmengine.logging import MMLogger
from torch import nn

from kd3d_core.detectors.anchor_detector import KITTI_CLASSES, AnchorDetector
from kd3d_core.detectors.decode import DecodeConfig
from kd3d_core.detectors.lite import lite_config
from kd3d_core.detectors.mvxnet import FusionDetector, mvxnet_config
from kd3d_core.detectors.second import PointDetector, pointpillars_config, second_config
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.window import WindowConfig

_TYPES = {
    "mvxnet": (FusionDetector, mvxnet_config),
    "lite": (FusionDetector, lite_config),
    "second": (PointDetector, second_config),
    "pointpillars": (PointDetector, pointpillars_config),
}


@dataclass(frozen=True)
class DetectorConfig:
    """A detector.

    Attributes:
        type: which design; `second` and `pointpillars` read points alone.
        weights: a name from `config/weights.yaml`, a `.safetensors` or mmdet3d `.pth` file, or
            `random`.
        window: what the detector sees of the image. For types that see none, the depth model's
            window costs nothing.
        classes: class names in the order of the labels.
        decoding: thresholds and counts.
    """

    type: Literal["mvxnet", "lite", "second", "pointpillars"]
    weights: str
    window: WindowConfig
    classes: tuple[str, ...] = KITTI_CLASSES
    decoding: DecodeConfig = field(default_factory=DecodeConfig)


def random_detector(config: DetectorConfig, seed: int) -> AnchorDetector:
    """A detector with weights drawn from `seed`; its boxes mean nothing.

    Scores lie around 0.5 (no prior for rare objects is set), so that boxes pass through every
    later step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(config)


def untrained_detector(config: DetectorConfig, seed: int) -> AnchorDetector:
    """A detector to train from nothing, with the weights that its parts ask for at first."""
    detector = random_detector(config, seed)
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # it lists every tensor
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector.network.init_weights()
    return detector


def load_detector(path: Path, config: DetectorConfig) -> AnchorDetector:
    """A detector with the weights of a file; every tensor must fit.

    Raises:
        WeightsError: the file can't be read, or its tensors aren't the model's.
    """
    detector = _build(config)
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


def _build(config: DetectorConfig) -> AnchorDetector:
    kind, make_config = _TYPES[config.type]
    detector = kind(make_config(), config.decoding).eval()
    if len(config.classes) != detector.head.num_classes:
        raise ConfigError(
            f"{config.type} has anchors for {detector.head.num_classes} classes "
            f"({', '.join(KITTI_CLASSES)}), the configuration names {len(config.classes)}"
        )
    return detector
