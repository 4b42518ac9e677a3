"""Builds a detector from its configuration and fills it with weights."""

from collections.abc import Callable
from pathlib import Path

import torch

from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.checkpoint import load_tensors
from kd3d_core.detectors.cmkd.assistant import cmkd_assistant_lite, cmkd_assistant_tiny
from kd3d_core.detectors.cmkd.student import cmkd_kitti, cmkd_lite, cmkd_tiny
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.edge import edge
from kd3d_core.detectors.lite import lite
from kd3d_core.detectors.mvxnet import mvxnet
from kd3d_core.detectors.pointpillars import pointpillars
from kd3d_core.detectors.second import second
from kd3d_core.detectors.teachers import (
    cmkd_teacher_lite,
    cmkd_teacher_pillars,
    cmkd_teacher_second,
    cmkd_teacher_tiny,
)
from kd3d_core.weights.tensors import read_tensors

_DESIGNS: dict[str, Callable[..., AnchorDetector]] = {
    "mvxnet": mvxnet,
    "lite": lite,
    "second": second,
    "pointpillars": pointpillars,
    "cmkd_teacher_second": cmkd_teacher_second,
    "cmkd_teacher_pillars": cmkd_teacher_pillars,
    "cmkd_teacher_lite": cmkd_teacher_lite,
    "cmkd_teacher_tiny": cmkd_teacher_tiny,
}
_WITH_IMAGE_SIDE: dict[str, Callable[..., AnchorDetector]] = {
    "edge": edge,
    "cmkd_kitti": cmkd_kitti,
    "cmkd_lite": cmkd_lite,
    "cmkd_tiny": cmkd_tiny,
    "cmkd_assistant_lite": cmkd_assistant_lite,
    "cmkd_assistant_tiny": cmkd_assistant_tiny,
}
"""Those that are told what reads the image."""


def random_detector(config: DetectorConfig, seed: int) -> AnchorDetector:
    """A detector with weights drawn from `seed`; its boxes mean nothing.

    Scores lie around 0.5 (no prior for rare objects is set), so that boxes pass through every
    later step.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _build(config)


def untrained_detector(config: DetectorConfig, seed: int) -> AnchorDetector:
    """A detector to train from nothing, with the weights that its parts ask for at first.

    `WeightsError` if its image side is to start from weights that aren't here or don't fit.
    """
    detector = random_detector(config, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector.init_weights()
    if config.type in _WITH_IMAGE_SIDE and config.used_image_side.weights != "random":
        detector.start_image_side(config.used_image_side.weights)
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
    wanted = [] if config.point_cloud_range is None else [config.point_cloud_range]
    if config.type in _WITH_IMAGE_SIDE:
        side = config.used_image_side
        detector = _WITH_IMAGE_SIDE[config.type](config.decoding, side, *wanted)
    else:
        detector = _DESIGNS[config.type](config.decoding, *wanted)
    if config.class_loss is not None:
        detector.head.class_loss = config.class_loss
    return detector.eval()
