"""Bird's-eye-view backbone and neck of SECOND (Yan et al., 2018), PointPillars and MVX-Net.

Names of tensors are those of mmdet3d's `SECOND` and `SECONDFPN`.
"""

from collections.abc import Sequence

import torch
from torch import nn


class BevBackbone(nn.Module):
    """Stages of 3x3 convolutions, each on the map of the one before."""

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        layers: Sequence[int],
        strides: Sequence[int],
    ) -> None:
        """`layers` counts a stage's convolutions after its first, which has the stage's stride."""
        super().__init__()
        self.blocks = nn.ModuleList()
        for width, count, stride in zip(channels, layers, strides, strict=True):
            stage = _normed(nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False))
            for _ in range(count):
                stage += _normed(nn.Conv2d(width, width, 3, padding=1, bias=False))
            self.blocks.append(nn.Sequential(*stage))
            in_channels = width

    def init_weights(self) -> None:
        _kaiming(self, nn.Conv2d)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The map `(B, C_i, h_i, w_i)` of each stage, finest first."""
        maps = []
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class BevNeck(nn.Module):
    """Brings the backbone's maps to one size and lays them behind each other."""

    def __init__(
        self, in_channels: Sequence[int], channels: Sequence[int], strides: Sequence[int]
    ) -> None:
        """`strides` says how many times each map is enlarged."""
        super().__init__()
        self.deblocks = nn.ModuleList(
            nn.Sequential(*_normed(nn.ConvTranspose2d(before, width, stride, stride, bias=False)))
            for before, width, stride in zip(in_channels, channels, strides, strict=True)
        )

    def init_weights(self) -> None:
        _kaiming(self, nn.ConvTranspose2d)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor]:
        """`(B, sum of channels, h, w)`, as a tuple of one."""
        enlarged = [block(map_) for block, map_ in zip(self.deblocks, maps, strict=True)]
        return (torch.cat(enlarged, 1),)


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    norm = nn.BatchNorm2d(conv.out_channels, eps=1e-3, momentum=0.01)
    return [conv, norm, nn.ReLU(inplace=True)]


def _kaiming(module: nn.Module, kind: type[nn.Conv2d | nn.ConvTranspose2d]) -> None:
    for layer in module.modules():
        if isinstance(layer, kind):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
