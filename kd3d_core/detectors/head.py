"""The anchor head of SECOND, PointPillars and MVX-Net."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from kd3d_core.detectors.anchors import Anchors
from kd3d_core.detectors.config import ClassLoss


class AnchorHead(nn.Module):
    """Class logits, box deltas and heading logits of every anchor, by one 1x1 convolution each.

    Names of tensors are those of mmdet3d's `Anchor3DHead`.

    Attributes:
        anchors: what the answers are relative to.
        assign_per_class: in training, anchors learn true boxes of their own class alone.
        class_loss: what a score learns to be; see `DetectorConfig`.
    """

    def __init__(
        self,
        in_channels: int,
        anchors: Anchors,
        *,
        assign_per_class: bool,
        class_loss: ClassLoss = "focal",
    ) -> None:
        super().__init__()
        self.anchors, self.assign_per_class = anchors, assign_per_class
        self.class_loss: ClassLoss = class_loss
        count = anchors.per_cell
        self.conv_cls = nn.Conv2d(in_channels, count * self.num_classes, 1)
        self.conv_reg = nn.Conv2d(in_channels, count * 7, 1)
        self.conv_dir_cls = nn.Conv2d(in_channels, count * 2, 1)

    @property
    def num_classes(self) -> int:
        return len(self.anchors.classes)

    def init_weights(self) -> None:
        # Upstream draws those of the classes twice; a seed is to mean the same weights here.
        classes, deltas, directions = self._convs
        for conv in (classes, deltas, directions, classes):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)
        nn.init.constant_(classes.bias, -math.log(99))  # a score of 0.01 (Lin et al., 2017)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a map `(B, C, h, w)`; see `HeadMaps`.

        The three convolutions as one, so that the map is read and its gradient written once.
        """
        weight = torch.cat([conv.weight for conv in self._convs])
        bias = torch.cat([conv.bias for conv in self._convs])
        answers = functional.conv2d(x, weight, bias)
        logits, deltas, directions = answers.split([len(conv.bias) for conv in self._convs], dim=1)
        return logits, deltas, directions

    @property
    def _convs(self) -> tuple[Any, Any, Any]:
        return self.conv_cls, self.conv_reg, self.conv_dir_cls
