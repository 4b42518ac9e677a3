"""Self-calibrated convolutions (Liu et al., 2020) over the bird's-eye view.

What a camera sees at a wrong distance lies metres off in the bird's-eye view. One half of the
channels looks at a map that is 4 times coarser to decide what to let through, so that these blocks
can move features by more than convolutions of their size could.
"""

import torch
from torch import nn
from torch.nn import functional

POOLING = 4
"""Cells per cell of the coarse map, along x and y."""


class SelfCalibratedBlock(nn.Module):
    """A residual block whose channels stay: one half plain, the other self-calibrated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.plain = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            *_conv_norm(half), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.entry = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True)
        )
        self.context = nn.Sequential(nn.AvgPool2d(POOLING), *_conv_norm(half))
        self.gated = nn.Sequential(*_conv_norm(half))
        self.answer = nn.Sequential(*_conv_norm(half), nn.ReLU(inplace=True))
        self.joined = nn.Sequential(
            nn.Conv2d(2 * half, channels, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, C, y, x)` of the same; y and x at least `POOLING`."""
        entry = self.entry(x)
        context = functional.interpolate(self.context(entry), entry.shape[-2:])
        calibrated = self.answer(self.gated(entry) * (entry + context).sigmoid())
        return functional.relu(x + self.joined(torch.cat([self.plain(x), calibrated], 1)))


def _conv_norm(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
