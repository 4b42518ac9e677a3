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
            dense = features.new_zeros(batch_size, *shape, features.shape[1])
            dense[tuple(coords.long().t())] = features
            return dense.permute(0, 4, 1, 2, 3).contiguous().flatten(1, 2)

    def _layers(self) -> list[Any]:
        stages: list[Any] = list(self.encoder_layers.values())
        return [self.conv_input, *chain.from_iterable(stages), self.conv_out]


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
