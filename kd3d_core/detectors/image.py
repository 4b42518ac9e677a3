"""Image backbone and neck: ResNet (He et al., 2016) and FPN (Lin et al., 2017).

Names of tensors are those of torchvision's ResNet and mmdet's `FPN`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

_BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class ResNet(nn.Module):
    """ResNet-18 or ResNet-50 without the classifier: maps of stride 4, 8, 16 and 32."""

    def __init__(
        self,
        depth: int,
        stages: int = 4,
        *,
        caffe: bool = False,
        frozen: bool = False,
        stride: int = 32,
    ) -> None:
        """Make it.

        Args:
            depth: 18 or 50.
            stages: how many of the four; the later ones aren't built.
            caffe: a bottleneck's stride is that of its first convolution, as in the weights of the
                authors, not of its second, as in torchvision's.
            frozen: training leaves all norms, the stem and the first stage as they are.
            stride: maps don't get coarser than this; 3x3 kernels are spread instead, as
                torchvision's DeepLabV3 does it.
        """
        super().__init__()
        self.frozen = frozen
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.names = [f"layer{stage + 1}" for stage in range(stages)]
        channels, dilation, reached = 64, 1, 4
        for stage, name in enumerate(self.names):
            blocks = []
            spread = stage > 0 and reached == stride
            reached = reached if spread or stage == 0 else 2 * reached
            for block in range(_BLOCKS[depth][stage]):
                width = 64 << stage
                step = 2 if stage > 0 and block == 0 and not spread else 1
                if depth < 50:
                    layers = [(width, 3, step), (width, 3, 1)]
                else:
                    first, second = (step, 1) if caffe else (1, step)
                    layers = [(width, 1, first), (width, 3, second), (4 * width, 1, 1)]
                blocks.append(_Residual(channels, layers, dilation))
                channels = layers[-1][0]
                if spread and block == 0:
                    dilation *= 2
            self.add_module(name, nn.Sequential(*blocks))
        if frozen:
            for part in (self.conv1, self.get_submodule("layer1"), *self._norms()):
                part.requires_grad_(False)

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, _Residual):  # begins as the identity (Goyal et al., 2017)
                nn.init.zeros_(getattr(module, f"bn{module.layers}").weight)

    def train(self, mode: bool = True) -> "ResNet":
        super().train(mode)
        if self.frozen:
            for norm in self._norms():
                norm.eval()
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The map `(B, C_i, H_i, W_i)` of each stage for normalised images `(B, 3, H, W)`."""
        x = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for name in self.names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps)

    def _norms(self) -> list[_BatchNorm]:
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]


class _Residual(nn.Module):
    """Convolutions whose answer is added to their input."""

    def __init__(
        self, in_channels: int, layers: Sequence[tuple[int, int, int]], dilation: int = 1
    ) -> None:
        """`layers`: channels, kernel size, stride of each convolution; `dilation` of 3x3 ones."""
        super().__init__()
        self.layers = len(layers)
        channels, stride = layers[-1][0], prod(stride for _, _, stride in layers)
        downsample = None
        if (in_channels, 1) != (channels, stride):
            conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            downsample = nn.Sequential(conv, nn.BatchNorm2d(channels))
        for number, (width, size, step) in enumerate(layers, 1):
            spread = dilation if size > 1 else 1
            padding = spread * (size // 2)
            conv = nn.Conv2d(
                in_channels, width, size, step, padding=padding, dilation=spread, bias=False
            )
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
            in_channels = width
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = x
        for number in range(1, self.layers + 1):
            conv, norm = self.get_submodule(f"conv{number}"), self.get_submodule(f"bn{number}")
            found = norm(conv(found))
            if number < self.layers:
                found = functional.relu(found, inplace=True)
        found += x if self.downsample is None else self.downsample(x)
        return functional.relu(found, inplace=True)


class FPN(nn.Module):
    """Feature pyramid: each level also knows what the coarser ones have found."""

    def __init__(
        self, in_channels: Sequence[int], channels: int, levels: int, *, frozen: bool = False
    ) -> None:
        """Make it.

        Args:
            in_channels: of the backbone's maps, finest first.
            channels: of every level.
            levels: how many; beyond the backbone's, each is every second pixel of the one before.
            frozen: training leaves scales and offsets of the norms, not their statistics.
        """
        super().__init__()
        self.levels = levels
        self.lateral_convs, self.fpn_convs = nn.ModuleList(), nn.ModuleList()
        for before in in_channels:
            for convs, conv in (
                (self.lateral_convs, mmcv_conv(before, channels, 1, bias=False)),
                (self.fpn_convs, mmcv_conv(channels, channels, 3, bias=False)),
            ):
                norm = nn.BatchNorm2d(channels).requires_grad_(not frozen)
                convs.append(nn.Sequential(OrderedDict(conv=conv, bn=norm)))

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """`(B, channels, h_i, w_i)` of each level, finest first."""
        laterals = [conv(map_) for conv, map_ in zip(self.lateral_convs, maps, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            finer = laterals[level - 1]
            laterals[level - 1] = finer + functional.interpolate(laterals[level], finer.shape[2:])
        found = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True)]
        while len(found) < self.levels:
            found.append(functional.max_pool2d(found[-1], 1, stride=2))
        return tuple(found)


def mmcv_conv(in_channels: int, channels: int, size: int, *, bias: bool) -> nn.Conv2d:
    """A convolution that keeps the map's size, with the first weights that mmcv draws for it."""
    conv = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
