"""Depth maps `(H, W)` in metres and the points behind their pixels, whatever the camera is called.

A projection is `(3, 4)` from points of the detector frame to pixels; that of an augmented world
serves as well, since its third row gives the depth of the image, not of the changed world.
"""

import numpy as np
import torch


def densified(depth: np.ndarray, within_px: float) -> np.ndarray:
    """A sparse depth map with each unknown pixel at the depth of the nearest known one.

    `(H, W)` metres, 0 where unknown; pixels that have none within `within_px` stay unknown.

    >>> densified(np.array([[0.0, 0.0, 9.0, 0.0, 0.0, 5.0]]), within_px=1)
    array([[0., 9., 9., 9., 5., 5.]])
    """
    from scipy.ndimage import distance_transform_edt

    if not depth.any():
        return depth
    distance, (row, column) = distance_transform_edt(depth == 0, return_indices=True)
    return np.where(distance <= within_px, depth[row, column], 0).astype(depth.dtype)


def unprojected(
    uv: torch.Tensor, depth: torch.Tensor, image_from_lidar: torch.Tensor
) -> torch.Tensor:
    """Points `(K, 3)` of the detector frame at pixels `(K, 2)` and depths `(K,)`, metres.

    >>> projection = torch.tensor([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
    >>> unprojected(torch.tensor([[370.0, 215.0]]), torch.tensor([10.0]), projection)
    tensor([[ 1.0000, -0.5000, 10.0000]])
    """
    ray, origin = _rays(image_from_lidar)
    homogeneous = torch.cat([uv, torch.ones_like(uv[:, :1])], 1) * depth[:, None]
    return homogeneous @ ray.T + origin


def box_depth(
    boxes: torch.Tensor, image_from_lidar: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """How far away each pixel's ray enters the first of the boxes that it meets, and which.

    Args:
        boxes: `(M, 7)` in the detector frame.
        image_from_lidar: `(3, 4)`.
        size: height and width of the image.

    Returns:
        `(H, W)` metres, 0 where there is no box, and `(H, W)` int64 rows of the boxes.

    >>> projection = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
    >>> boxes = torch.tensor([[20.0, 0, -1, 4, 2, 2, 0], [10.0, 0, -1, 4, 2, 2, 0]])
    >>> depth, which = box_depth(boxes, projection, (1, 2))
    >>> depth.tolist(), which[0, 0].item()
    ([[8.0, 0.0]], 1)
    """
    height, width = size
    rows, columns = torch.meshgrid(
        torch.arange(height, device=boxes.device, dtype=boxes.dtype),
        torch.arange(width, device=boxes.device, dtype=boxes.dtype),
        indexing="ij",
    )
    if not len(boxes):
        return torch.zeros_like(rows), torch.zeros_like(rows, dtype=torch.int64)
    ray, origin = _rays(image_from_lidar)
    pixels = torch.stack([columns.flatten(), rows.flatten(), torch.ones_like(rows.flatten())], 1)
    directions = (pixels @ ray.T)[:, None]  # of length one along the optical axis
    turned = [_in_box_frame(directions, boxes), _in_box_frame(origin - boxes[:, :3], boxes)]
    half = boxes[:, 3:6] / 2
    centre = half * half.new_tensor([0, 0, 1])  # of a box whose own point is that of its bottom
    direction = torch.where(turned[0].abs() < 1e-9, 1e-9, turned[0])
    planes = [(centre + side * half - turned[1]) / direction for side in (-1, 1)]
    enter = torch.minimum(*planes).amax(-1)
    leave = torch.maximum(*planes).amin(-1)
    entered = torch.where((enter <= leave) & (enter > 0), enter, torch.inf)
    nearest, which = entered.min(1)
    depth = torch.where(nearest.isfinite(), nearest, 0)
    return depth.view(height, width), which.view(height, width)


def _rays(image_from_lidar: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`(3, 3)` and `(3,)` with `point = ray @ (depth * [u, v, 1]) + origin`, as `PinholeCamera`."""
    wide = image_from_lidar.double()  # inverted in single precision, distant points are off
    ray = torch.linalg.inv(wide[:, :3])
    return ray.to(image_from_lidar), (-ray @ wide[:, 3]).to(image_from_lidar)


def _in_box_frame(vectors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Vectors `(..., M, 3)`, each turned into the frame of its box."""
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    x, y, z = vectors.expand(*vectors.shape[:-2], len(boxes), 3).unbind(-1)
    return torch.stack([x * cos + y * sin, y * cos - x * sin, z], -1)
