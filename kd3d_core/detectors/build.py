"""Builds a detector from its configuration and fills it with weights."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from mmengine.logging import MMLogger

from kd3d_core.detectors.anchor_detector import KITTI_CLASSES, AnchorDetector
from kd3d_core.detectors.checkpoint import load_tensors
from kd3d_core.detectors.decode import DecodeConfig
from kd3d_core.detectors.grid import Range, with_range
from kd3d_core.detectors.lite import lite_config
from kd3d_core.detectors.mvxnet import FusionDetector, mvxnet_config
from kd3d_core.detectors.second import PointDetector, pointpillars_config, second_config
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.weights.tensors import read_tensors

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
        point_cloud_range: x_min, y_min, z_min, x_max, y_max, z_max in metres of what the detector
            sees; None is the design's own. A smaller one is quicker, and boxes beyond it are
            neither learnt nor found.
    """

    type: Literal["mvxnet", "lite", "second", "pointpillars"]
    weights: str
    window: WindowConfig
    classes: tuple[str, ...] = KITTI_CLASSES
    decoding: DecodeConfig = field(default_factory=DecodeConfig)
    point_cloud_range: Range | None = None


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


def _build(config: DetectorConfig) -> AnchorDetector:
    kind, make_config = _TYPES[config.type]
    design = make_config()
    if config.point_cloud_range is not None:
        design = with_range(design, config.point_cloud_range)
    detector = kind(design, config.decoding).eval()
    if len(config.classes) != detector.head.num_classes:
        raise ConfigError(
            f"{config.type} has anchors for {detector.head.num_classes} classes "
            f"({', '.join(KITTI_CLASSES)}), the configuration names {len(config.classes)}"
        )
    return detector
