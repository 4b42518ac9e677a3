"""Which cells of the bird's-eye view matter: those of objects, and those that the teacher fills."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.geometry.boxes import points_in_boxes


def filled_cells(canvas: torch.Tensor) -> torch.Tensor:
    """`(B, 1, y, x)` 1 where a bird's-eye view `(B, C, y, x)` of encoded voxels isn't all zero."""
    return (canvas != 0).any(1, keepdim=True).float()


def foreground_cells(
    boxes: Sequence[torch.Tensor], grid: VoxelGrid, size: tuple[int, int]
) -> torch.Tensor:
    """`(B, 1, h, w)` 1 in the cells of objects.

    A cell is an object's if its centre lies in the box, seen from above, or within half a cell of
    its sides: the smallest object has a cell.

    Args:
        boxes: `(M_b, 7)` of each sample.
        grid: whose range the map covers.
        size: h and w of the map; rows are y, columns x, both rising.
    """
    height, width = size
    x_min, y_min, _, x_max, y_max, _ = grid.point_cloud_range
    step_x, step_y = (x_max - x_min) / width, (y_max - y_min) / height
    masks = []
    for box in boxes:
        x = x_min + step_x * (torch.arange(width, device=box.device) + 0.5)
        y = y_min + step_y * (torch.arange(height, device=box.device) + 0.5)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        centers = torch.stack([columns, rows, torch.zeros_like(rows)], -1).view(-1, 3)
        flat = box.clone()
        flat[:, 2], flat[:, 5] = 0, 1
        flat[:, 3] += step_x
        flat[:, 4] += step_y
        masks.append(points_in_boxes(centers, flat).any(1).view(1, height, width))
    return torch.stack(masks).float()


def cell_weights(
    foreground: torch.Tensor, filled: torch.Tensor, background: float, empty: float
) -> torch.Tensor:
    """`(B, 1, h, w)` weights: 1 in filled cells of objects, less elsewhere.

    Args:
        foreground: `(B, 1, h, w)`, 1 in the cells of objects.
        filled: `(B, 1, y, x)`, 1 in cells that the teacher fills, on a grid of its own; a cell of
            the map is filled if any of those that it covers is.
        background: factor outside of objects.
        empty: factor in cells that the teacher leaves empty.
    """
    covered = functional.adaptive_max_pool2d(filled, foreground.shape[-2:])
    return torch.where(foreground > 0, 1.0, background) * torch.where(covered > 0, 1.0, empty)
