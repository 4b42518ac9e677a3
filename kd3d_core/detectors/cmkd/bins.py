"""Depth in bins that grow with distance, as CaDDN and CMKD divide it."""

from dataclasses import dataclass

import torch

from kd3d_core.errors import ConfigError

UNKNOWN = -1
"""Class of a pixel whose depth nobody has measured: it teaches nothing."""


@dataclass(frozen=True)
class DepthBins:
    """Linear-increasing bins (Reading et al., 2021): edge i is `low + w * i * (i + 1) / 2`.

    A distribution over depth has `count + 1` classes: the bins, and one for all that is beyond
    them, which no voxel reads.

    Attributes:
        low: nearest edge, metres.
        high: farthest edge, metres.
        count: number of bins.
    """

    low: float
    high: float
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high or self.count < 1:
            raise ConfigError(
                f"depth bins are {self.count} from {self.low} to {self.high} m: give at least one, "
                "and 0 <= low < high"
            )

    @property
    def width(self) -> float:
        """How much each bin is wider than the one before, metres; also the width of the first."""
        return 2 * (self.high - self.low) / (self.count * (self.count + 1))

    def edges(self) -> torch.Tensor:
        """`(count + 1,)` float32 metres.

        >>> DepthBins(2.0, 12.0, 4).edges()
        tensor([ 2.,  3.,  5.,  8., 12.])
        """
        index = torch.arange(self.count + 1, dtype=torch.float64)
        return (self.low + self.width * index * (index + 1) / 2).float()

    def centres(self) -> torch.Tensor:
        """`(count,)` float32 metres: the depth at the middle index of each bin."""
        index = torch.arange(self.count, dtype=torch.float64) + 0.5
        return (self.low + self.width * index * (index + 1) / 2).float()

    def position(self, depth: torch.Tensor) -> torch.Tensor:
        """Continuous index of depths in metres: i at edge i. Negative before the first edge.

        >>> DepthBins(2.0, 12.0, 4).position(torch.tensor([2.0, 2.375, 5.0, 12.0]))
        tensor([0.0000, 0.5000, 2.0000, 4.0000])
        """
        root = (8 * (depth - self.low) / self.width + 1).clamp(min=0).sqrt()
        return (root - 1) / 2

    def classes(self, depth: torch.Tensor) -> torch.Tensor:
        """int64 bin of each depth; `count` beyond the last one, `UNKNOWN` where it isn't known.

        Unknown are 0, negative, NaN and infinity, and what is nearer than the first bin.

        >>> DepthBins(2.0, 12.0, 4).classes(torch.tensor([0.0, 2.5, 11.9, 12.0, float("nan")]))
        tensor([-1,  0,  3,  4, -1])
        """
        known = (depth >= self.low) & depth.isfinite()  # False for NaN
        index = self.position(torch.where(known, depth, self.low)).floor().long()
        return torch.where(known, index.clamp(max=self.count), UNKNOWN)

    def expected(self, probabilities: torch.Tensor) -> torch.Tensor:
        """`(B, h, w)` metres: the mean of distributions `(B, count + 1, h, w)`; `high` beyond.

        A pixel is beyond if that class is likelier than not. Of the others the mean is over the
        bins alone, and nearer than `high`.

        >>> distribution = torch.tensor([0.5, 0.5, 0.0, 0.0, 0.0]).view(1, 5, 1, 1)
        >>> DepthBins(2.0, 12.0, 4).expected(distribution)
        tensor([[[3.1250]]])
        """
        within, beyond = probabilities[:, :-1], probabilities[:, -1]
        centres = self.centres().to(within).view(1, -1, 1, 1)
        mean = (within * centres).sum(1) / within.sum(1).clamp(min=1e-6)
        return torch.where(beyond > 0.5, self.high, mean)
