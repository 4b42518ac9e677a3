"""Which cells of the bird's-eye view matter: those of objects, and those that the teacher fills."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from kd3d_core.detectors.anchor_detector import BevFeatures
from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.geometry.boxes import points_in_boxes


def foreground_cells(
    boxes: Sequence[torch.Tensor], grid: VoxelGrid, size: tuple[int, int]
) -> torch.Tensor:
    """`(B, 1, h, w)` bool: the cells of objects.

    A cell is an object's if its centre lies in the box, seen from above, or within half a cell of
    its sides: the smallest object has a cell. The map has rows of y and columns of x, both rising.

    Args:
        boxes: `(M_b, 7)` of each sample.
        grid: whose range the map covers.
        size: h and w of the map.
    """
    return torch.stack([inside.any(1).view(1, *size) for inside in _in_objects(boxes, grid, size)])


def object_weights(
    boxes: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    grid: VoxelGrid,
    size: tuple[int, int],
) -> torch.Tensor:
    """`(B, 1, h, w)`: 1, and in the cells of objects the weight of the heaviest.

    Args:
        boxes, grid, size: see `foreground_cells`.
        weights: `(M_b,)` of each sample's boxes.
    """
    maps = []
    for inside, theirs in zip(_in_objects(boxes, grid, size), weights, strict=True):
        heaviest = torch.where(inside, theirs, -1.0)
        outside = heaviest.new_full((len(inside), 1), -1.0)
        found = torch.cat([heaviest, outside], 1).amax(1)
        maps.append(torch.where(found < 0, 1.0, found).view(1, *size))
    return torch.stack(maps)


def _in_objects(
    boxes: Sequence[torch.Tensor], grid: VoxelGrid, size: tuple[int, int]
) -> list[torch.Tensor]:
    """`(h * w, M_b)` bool of each sample: which cells are of which object."""
    height, width = size
    x_min, y_min, _, x_max, y_max, _ = grid.point_cloud_range
    step_x, step_y = (x_max - x_min) / width, (y_max - y_min) / height
    device = boxes[0].device
    x = x_min + step_x * (torch.arange(width, device=device) + 0.5)
    y = y_min + step_y * (torch.arange(height, device=device) + 0.5)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    centers = torch.stack([columns, rows, torch.zeros_like(rows)], -1).view(-1, 3)
    masks = []
    for box in boxes:
        flat = torch.cat([box[:, :2], torch.zeros_like(box[:, :1]), box[:, 3:]], 1)
        flat = flat + flat.new_tensor([0, 0, 0, step_x, step_y, 0, 0])
        masks.append(points_in_boxes(centers, flat))
    return masks


def filled_cells(features: BevFeatures) -> torch.Tensor:
    """`(B, 1, y, x)` bool: the cells of the bird's-eye view of encoded voxels that hold points."""
    if features.filled is not None:
        return features.filled
    return (features.voxels[0] != 0).any(1, keepdim=True)


def resized(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`(B, 1, h, w)` bool: the cells of another grid that cover a true one of `(B, 1, y, x)`."""
    return functional.adaptive_max_pool2d(mask.float(), size) > 0
