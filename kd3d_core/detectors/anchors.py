"""Anchors: the boxes over a bird's-eye view that a head's answers are relative to."""

from dataclasses import dataclass

import torch

from kd3d_core.detectors.config import Range

ROTATIONS = (0.0, 1.57)
"""Yaws of the anchors of each class, radians; mmdet3d's quarter turn."""


@dataclass(frozen=True)
class ClassAnchor:
    """The anchor of one class, and which of them learn a true box of that class.

    Attributes:
        size: length, width, height in metres.
        bottom: z of its bottom, metres in the detector frame.
        positive_iou: bird's-eye-view IoU with a true box from which an anchor learns it.
        negative_iou: IoU below which an anchor learns that there is nothing.
    """

    size: tuple[float, float, float]
    bottom: float
    positive_iou: float
    negative_iou: float


@dataclass(frozen=True)
class Anchors:
    """Anchors of every class and rotation in every cell.

    Attributes:
        point_cloud_range: what the cells cover.
        classes: one anchor for each, in the order of the labels.
        centred: anchors stand in the centres of their cells; if not, the first and the last ones
            of a row stand on the range's borders.
    """

    point_cloud_range: Range
    classes: tuple[ClassAnchor, ...]
    centred: bool = False

    @property
    def per_cell(self) -> int:
        """Anchors in each cell."""
        return len(self.classes) * len(ROTATIONS)

    def boxes(self, size: tuple[int, int], device: torch.device | str = "cpu") -> torch.Tensor:
        """`(h * w * A, 7)` boxes for a map of `size` h, w; classes before rotations in each cell.

        >>> car = ClassAnchor((3.9, 1.6, 1.56), -1.78, 0.6, 0.45)
        >>> Anchors((0, -40, -3, 70, 40, 1), (car,), centred=True).boxes((2, 1))
        tensor([[ 35.0000, -20.0000,  -1.7800,   3.9000,   1.6000,   1.5600,   0.0000],
                [ 35.0000, -20.0000,  -1.7800,   3.9000,   1.6000,   1.5600,   1.5700],
                [ 35.0000,  20.0000,  -1.7800,   3.9000,   1.6000,   1.5600,   0.0000],
                [ 35.0000,  20.0000,  -1.7800,   3.9000,   1.6000,   1.5600,   1.5700]])
        """
        height, width = size
        x_min, y_min, _, x_max, y_max, _ = self.point_cloud_range
        y, x = self._along(y_min, y_max, height, device), self._along(x_min, x_max, width, device)
        kinds = torch.tensor(
            [[kind.bottom, *kind.size, yaw] for kind in self.classes for yaw in ROTATIONS],
            device=device,
        )
        shape = (height, width, self.per_cell, 1)
        parts = (x.view(1, -1, 1, 1), y.view(-1, 1, 1, 1), kinds)
        return torch.cat([part.expand(*shape[:3], part.shape[-1]) for part in parts], -1).view(
            -1, 7
        )

    def _along(
        self, low: float, high: float, count: int, device: torch.device | str
    ) -> torch.Tensor:
        if not self.centred:
            return torch.linspace(low, high, count, device=device)
        edges = torch.linspace(low, high, count + 1, device=device)
        return edges[:-1] + (edges[1] - edges[0]) / 2
