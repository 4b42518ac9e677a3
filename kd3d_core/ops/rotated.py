"""Overlap of boxes in bird's-eye view and non-maximum suppression on it."""

from typing import Literal

import torch
from torch import Tensor

from kd3d_core.geometry.rectangles import intersection_area

_STEPS_BETWEEN_CHECKS = 4


def box_iou_rotated(
    boxes: Tensor, others: Tensor, mode: Literal["iou", "iof"] = "iou", aligned: bool = False
) -> Tensor:
    """Intersection over union of rotated rectangles.

    Exact up to rounding, see `kd3d_core.geometry.rectangles.intersection_area`.

    Args:
        boxes: (..., N, 5) floating: x, y of the centre, width along the box's own x axis, height
            along its own y axis, angle in radians from x to y (mmcv's order; counter-clockwise when
            y points left of x, as in our detector frame).
        others: (..., M, 5), or (..., N, 5) if `aligned`.
        mode: `iou`, or `iof` to divide by the area of `boxes` alone.
        aligned: compare box i with other i only.

    Returns:
        (..., N, M), or (..., N) if `aligned`, in [0, 1]; 0 where a box has no area. Memory: about
        25 times the result (100 MB for 1000 x 1000 in float32).

    >>> car = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]])
    >>> others = torch.tensor([[1.0, 0.0, 4.0, 2.0, 0.0], [0.0, 0.0, 4.0, 2.0, torch.pi / 2]])
    >>> box_iou_rotated(car, others)
    tensor([[0.6000, 0.3333]])
    """
    if not aligned:
        boxes, others = boxes[..., :, None, :], others[..., None, :, :]
    area, other_area = boxes[..., 2] * boxes[..., 3], others[..., 2] * others[..., 3]
    overlap = intersection_area(boxes, others)
    whole = area + other_area - overlap if mode == "iou" else area.expand_as(overlap)
    return torch.where((overlap > 0) & (whole > 0), overlap / whole, 0)


def box_iou_axis_aligned(boxes: Tensor, offset: float = 0.0) -> Tensor:
    """Intersection over union of every pair of axis-aligned boxes.

    Args:
        boxes: (N, 4) floating: x1, y1, x2, y2.
        offset: 1 if the coordinates are pixels whose last column and row count, else 0.

    Returns:
        (N, N) in [0, 1]; 0 where a box has no area.

    >>> box_iou_axis_aligned(torch.tensor([[0.0, 0.0, 4.0, 2.0], [2.0, 0.0, 6.0, 2.0]]))
    tensor([[1.0000, 0.3333],
            [0.3333, 1.0000]])
    """
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = (high - low + offset).clamp(min=0).prod(dim=-1)
    area = (boxes[:, 2:] - boxes[:, :2] + offset).clamp(min=0).prod(dim=-1)
    whole = area[:, None] + area[None] - overlap
    return torch.where((overlap > 0) & (whole > 0), overlap / whole, 0)


def nms_rotated(
    boxes: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None
) -> Tensor:
    """Greedy non-maximum suppression of rotated boxes.

    From the highest score down, a box is kept unless its IoU with a kept one exceeds the
    threshold; of equal scores, the lower index comes first. The size of the result depends on the
    data, so it makes device-to-host copies; `nms_rotated_mask` makes none.

    Args:
        boxes: (N, 5) as in `box_iou_rotated`.
        scores: (N,).
        iou_threshold: boxes that overlap by more suppress each other.
        groups: (N,) integer labels; boxes suppress each other only within a group.

    Returns:
        (K,) int64, indices of the kept boxes by falling score.

    >>> boxes = torch.tensor([[0, 0, 4, 2, 0], [1, 0, 4, 2, 0], [9, 0, 4, 2, 0.0]])
    >>> nms_rotated(boxes, torch.tensor([0.5, 0.9, 0.3]), 0.5)
    tensor([1, 2])
    """
    return _nms(box_iou_rotated(boxes, boxes), scores, iou_threshold, groups)


def nms_axis_aligned(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: float = 0.0
) -> Tensor:
    """As `nms_rotated`, for boxes (N, 4) x1, y1, x2, y2; `offset` as in `box_iou_axis_aligned`.

    >>> boxes = torch.tensor([[0, 0, 4, 2], [1, 0, 5, 2], [9, 0, 12, 2.0]])
    >>> nms_axis_aligned(boxes, torch.tensor([0.5, 0.9, 0.3]), 0.5)
    tensor([1, 2])
    """
    return _nms(box_iou_axis_aligned(boxes, offset), scores, iou_threshold)


def nms_rotated_mask(
    boxes: Tensor, scores: Tensor, iou_threshold: float, valid: Tensor | None = None
) -> Tensor:
    """The boxes that `nms_rotated` keeps, as a mask of fixed size, for many sets of scores at once.

    On a GPU nothing is copied to the host and no shape depends on the data, so the call can be
    queued behind the detector, and captured in a CUDA graph.

    Args:
        boxes: (..., N, 5) as in `box_iou_rotated`.
        scores: (..., N), with the leading dimensions of the boxes or more, for example of each
            class. Boxes suppress each other only within a set of scores.
        iou_threshold: as in `nms_rotated`.
        valid: bool of the shape of `scores`; boxes that are not valid are not kept and suppress
            nothing.

    Returns:
        Bool, of the shape of `scores`.

    >>> boxes = torch.tensor([[0, 0, 4, 2, 0], [1, 0, 4, 2, 0], [9, 0, 4, 2, 0.0]])
    >>> nms_rotated_mask(boxes, torch.tensor([[0.5, 0.9, 0.3], [0.7, 0.2, 0.1]]), 0.5)
    tensor([[False,  True,  True],
            [ True, False,  True]])
    """
    # The overlaps are the same for all sets.
    suppresses = (box_iou_rotated(boxes, boxes) > iou_threshold) & _is_first(scores)
    if valid is not None:
        suppresses = suppresses & valid[..., None]
    kept = _kept(suppresses, _may_wait(scores))
    return kept if valid is None else kept & valid


def _nms(iou: Tensor, scores: Tensor, iou_threshold: float, groups: Tensor | None = None) -> Tensor:
    """Indices of the kept boxes by falling score, from all overlaps (N, N)."""
    suppresses = (iou > iou_threshold) & _is_first(scores)
    if groups is not None:
        suppresses = suppresses & (groups[:, None] == groups[None])
    order = scores.sort(descending=True, stable=True).indices
    return order[_kept(suppresses, may_wait=True)[order]]


def _is_first(scores: Tensor) -> Tensor:
    """(..., N, N) bool: does row come before column, by falling score and then by index?"""
    rank = scores.sort(descending=True, stable=True).indices.argsort()
    return rank[..., :, None] < rank[..., None, :]


def _kept(suppresses: Tensor, may_wait: bool) -> Tensor:
    """(..., N) bool: what no kept box suppresses, if (..., N, N) says whether row would column.

    After t steps from "keep all", every box whose longest chain of suppressors is shorter than t
    is right, hence all N boxes after N steps at the latest. Who may wait for the device stops as
    soon as nothing changes, which is after a few; else a step is two kernels.
    """
    # Only zero or not matters of a sum, so half precision is exact.
    matrix = suppresses.to(torch.float16 if suppresses.is_cuda else torch.float32)
    keep = matrix.new_ones(*matrix.shape[:-2], 1, matrix.shape[-1])
    for step in range(matrix.shape[-1]):
        following = torch.eq(keep @ matrix, 0, out=torch.empty_like(keep))
        if may_wait and step % _STEPS_BETWEEN_CHECKS == 0 and torch.equal(following, keep):
            break
        keep = following
    return keep.squeeze(-2).bool()


def _may_wait(values: Tensor) -> bool:
    """Whether looking at values holds nothing up."""
    return not values.is_cuda
