"""The sparse voxel encoder of SECOND (Yan et al., 2018), on `kd3d_core.ops`.

Names and layout of tensors are those of mmdet3d's `SparseEncoder` on mmcv's sparse convolutions.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from kd3d_core.ops import Rulebook, sparse_conv3d, strided_rulebook, submanifold_rulebook

Triple = tuple[int, int, int]


class SparseConv(nn.Module):
    """Weight `(kz, ky, kx, C_in, C_out)` of a sparse convolution, and its geometry (z, y, x).

    Without a stride it is submanifold: its outputs are where its inputs are.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple = (3, 3, 3),
        stride: Triple | None = None,
        padding: Triple = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.weight = nn.Parameter(torch.empty(*kernel, in_channels, out_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def rulebook(self, coords: torch.Tensor, shape: Sequence[int]) -> Rulebook:
        """For inputs at `coords` `(N, 4)` int32 sample, z, y, x in a grid of `shape`."""
        if self.stride is None:
            return submanifold_rulebook(coords, shape, self.kernel)
        return strided_rulebook(coords, shape, self.kernel, self.stride, self.padding)


class SparseEncoder(nn.Module):
    """Voxels of 4 stages, 8 times coarser in x and y, to 256 channels of a bird's-eye view."""

    stride = 8
    """Voxels per cell of the bird's-eye view, in x and in y."""

    def __init__(self, in_channels: int, shape: Triple) -> None:
        """For voxels with `in_channels` in a grid of `shape` z, y, x."""
        super().__init__()
        self.shape = (shape[0] + 1, *shape[1:])  # as upstream pads it
        down: Triple = (2, 2, 2)
        self.conv_input = _layer(in_channels, 16)
        self.encoder_layers = nn.ModuleDict(
            {
                "encoder_layer1": nn.Sequential(_layer(16, 16)),
                "encoder_layer2": nn.Sequential(
                    _layer(16, 32, stride=down), _layer(32, 32), _layer(32, 32)
                ),
                "encoder_layer3": nn.Sequential(
                    _layer(32, 64, stride=down), _layer(64, 64), _layer(64, 64)
                ),
                "encoder_layer4": nn.Sequential(
                    _layer(64, 64, stride=down, padding=(0, 1, 1)), _layer(64, 64), _layer(64, 64)
                ),
            }
        )
        self.conv_out = _layer(64, 128, (3, 1, 1), stride=(2, 1, 1), padding=(0, 0, 0))

    def forward(
        self, features: torch.Tensor, coords: torch.Tensor, batch_size: int
    ) -> torch.Tensor:
        """`(B, 128 * z, y, x)` of voxels `(V, C)` at `coords` `(V, 4)` int32 sample, z, y, x."""
        with torch.autocast(features.device.type, enabled=False):
            shape: Sequence[int] = self.shape
            moved = True
            for conv, norm, relu in self._layers():
                strided = conv.stride is not None
                if moved or strided:  # submanifold convolutions in a row share theirs
                    rulebook = conv.rulebook(coords, shape)
                    coords, shape = rulebook.out_coords, rulebook.out_shape
                moved = strided
                features = sparse_conv3d(features, conv.weight, rulebook)
                if len(features):
                    features = relu(norm(features))
            return _seen_from_above(features, coords, shape, batch_size)

    def _layers(self) -> list[Any]:
        stages: list[Any] = list(self.encoder_layers.values())
        return [self.conv_input, *chain.from_iterable(stages), self.conv_out]


class ResidualSparseEncoder(nn.Module):
    """As `SparseEncoder`, of residual blocks (OpenPCDet's `VoxelResBackBone8x`)."""

    def __init__(self, in_channels: int, shape: Triple, channels: int) -> None:
        """For voxels with `in_channels` in a grid of `shape` z, y, x, to `channels` a height."""
        super().__init__()
        self.shape = (shape[0] + 1, *shape[1:])
        down: Triple = (2, 2, 2)
        self.conv_input = _layer(in_channels, 16)
        self.downs = nn.ModuleList(
            [
                _layer(16, 32, stride=down),
                _layer(32, 64, stride=down),
                _layer(64, channels, stride=down, padding=(0, 1, 1)),
            ]
        )
        self.stages = nn.ModuleList(
            nn.ModuleList([_SparseResidual(width), _SparseResidual(width)])
            for width in (16, 32, 64, channels)
        )
        self.conv_out = _layer(channels, channels, (3, 1, 1), (2, 1, 1), padding=(0, 0, 0))

    def forward(
        self, features: torch.Tensor, coords: torch.Tensor, batch_size: int
    ) -> torch.Tensor:
        """`(B, channels * z, y, x)` of voxels `(V, C)` at `coords` `(V, 4)` int32."""
        with torch.autocast(features.device.type, enabled=False):
            shape: Sequence[int] = self.shape
            entry, out, stages = self._parts
            rulebook = entry[0].rulebook(coords, shape)
            features = _apply(entry, features, rulebook)
            for down, blocks in stages:
                if down is not None:
                    rulebook = down[0].rulebook(coords, shape)
                    features = _apply(down, features, rulebook)
                    coords, shape = rulebook.out_coords, rulebook.out_shape
                    rulebook = submanifold_rulebook(coords, shape, (3, 3, 3))
                for block in blocks:
                    features = block(features, rulebook)
            rulebook = out[0].rulebook(coords, shape)
            features = _apply(out, features, rulebook)
            return _seen_from_above(features, rulebook.out_coords, rulebook.out_shape, batch_size)

    @property
    def _parts(self) -> tuple[Any, Any, Any]:
        """The first and the last layer; what makes each stage coarser, if anything, and it."""
        stages: Any = self.stages
        return self.conv_input, self.conv_out, zip([None, *self.downs], stages, strict=True)


class _SparseResidual(nn.Module):
    """Two submanifold convolutions whose answer is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _layer(channels, channels), _layer(channels, channels)

    def forward(self, features: torch.Tensor, rulebook: Rulebook) -> torch.Tensor:
        second: Any = self.second
        conv, norm, relu = second
        found = sparse_conv3d(_apply(self.first, features, rulebook), conv.weight, rulebook)
        return relu(norm(found) + features) if len(found) else found


def _apply(layer: Any, features: torch.Tensor, rulebook: Rulebook) -> torch.Tensor:
    conv, norm, relu = layer
    features = sparse_conv3d(features, conv.weight, rulebook)
    return relu(norm(features)) if len(features) else features


def _seen_from_above(
    features: torch.Tensor, coords: torch.Tensor, shape: Sequence[int], batch_size: int
) -> torch.Tensor:
    """`(B, C * z, y, x)` of voxels in a grid of `shape` z, y, x; zeros elsewhere."""
    dense = features.new_zeros(batch_size, *shape, features.shape[1])
    dense[tuple(coords.long().t())] = features
    return dense.permute(0, 4, 1, 2, 3).contiguous().flatten(1, 2)


def _layer(
    in_channels: int,
    out_channels: int,
    kernel: Triple = (3, 3, 3),
    stride: Triple | None = None,
    padding: Triple = (1, 1, 1),
) -> nn.Sequential:
    return nn.Sequential(
        SparseConv(in_channels, out_channels, kernel, stride, padding),
        nn.BatchNorm1d(out_channels, eps=1e-3, momentum=0.01),
        nn.ReLU(inplace=True),
    )
