"""The parts of a student's loss that its depth network learns from."""

import torch

from kd3d_core.depth.loss import silog_loss
from kd3d_core.depth.objects import ObjectPixels, log_errors, pixel_loss, shift_loss
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.distill.loss_part import LossPart, StudentStep, WeightedSum, means


class DepthPixelsPart(LossPart):
    """Smooth L1 of the log-depth of objects' pixels, each object with the same weight."""

    reads_head = False
    reads_features = False

    def __init__(self, config: LearnDepthConfig | None) -> None:
        super().__init__()
        assert config is not None, "DistillConfig has checked it"
        self._beta = config.beta

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        errors, objects = _errors(step)
        return means({"l1": WeightedSum(pixel_loss(errors, objects, self._beta), objects.seen)})


class DepthObjectsPart(LossPart):
    """How far each object lies off as a whole, in log-depth."""

    reads_head = False
    reads_features = False

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        errors, objects = _errors(step)
        return means({"shift": WeightedSum(shift_loss(errors, objects), objects.seen)})


class DepthImagePart(LossPart):
    """The scale-invariant loss of all pixels that LiDAR saw."""

    reads_head = False
    reads_features = False

    def __init__(self, config: LearnDepthConfig | None) -> None:
        super().__init__()
        assert config is not None, "DistillConfig has checked it"
        self._variance_focus = config.variance_focus

    def forward(self, step: StudentStep) -> dict[str, torch.Tensor]:
        assert step.depth is not None
        truth = step.depth.view.lidar
        return {"silog": silog_loss(step.depth.depth, truth, self._variance_focus)}


def _errors(step: StudentStep) -> tuple[torch.Tensor, ObjectPixels]:
    """`log_errors` of the objects' pixels, and the objects."""
    assert step.depth is not None
    assert step.objects is not None
    return log_errors(step.depth.depth, step.objects), step.objects
