"""Depth of objects: which pixels show them, how far those are, and what a depth map makes of that.

A loss that is a mean over all pixels hardly feels where an object is as a whole: objects are a
tenth of the pixels. Here every object counts the same, whatever its number of pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from kd3d_core.geometry.boxes import points_in_boxes
from kd3d_core.geometry.depth_maps import box_depth, unprojected


@dataclass(frozen=True)
class ObjectPixels:
    """Pixels that show the objects of a batch.

    Attributes:
        pixels: `(K,)` int64 flat indices into `(B, H, W)`.
        depth: `(K,)` metres, true.
        owners: `(K,)` int64 which object each shows, counted over all frames.
        counts: `(M,)` pixels of each object; some may have none.
    """

    pixels: torch.Tensor
    depth: torch.Tensor
    owners: torch.Tensor
    counts: torch.Tensor

    @property
    def seen(self) -> torch.Tensor:
        """The number of objects that have a pixel, as a float."""
        return (self.counts > 0).sum().float()


def measured_objects(
    lidar: torch.Tensor, image_from_lidar: torch.Tensor, boxes: Sequence[torch.Tensor]
) -> ObjectPixels:
    """Pixels in which LiDAR saw a point inside of a box.

    Args:
        lidar: `(B, H, W)` metres, 0 where LiDAR saw nothing.
        image_from_lidar: `(B, 3, 4)`.
        boxes: `(M_b, 7)` of each frame.

    >>> lidar = torch.zeros(1, 2, 3)
    >>> lidar[0, 1] = torch.tensor([0.0, 9.0, 20.0])
    >>> projection = torch.tensor([[[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]])
    >>> found = measured_objects(lidar, projection, [torch.tensor([[9.0, -9, -10, 4, 2, 2, 0]])])
    >>> found.pixels.tolist(), found.depth.tolist(), found.counts.tolist()
    ([4], [9.0], [1])
    """
    width = lidar.shape[-1]
    found = []
    for frame, (depth, projection, theirs) in enumerate(
        zip(lidar, image_from_lidar, boxes, strict=True)
    ):
        row, column = depth.nonzero(as_tuple=True)
        known = depth[row, column]
        uv = torch.stack([column, row], 1).to(known.dtype)
        inside = points_in_boxes(unprojected(uv, known, projection), theirs.to(known.dtype))
        at, owner = inside.nonzero(as_tuple=True)
        flat = frame * depth.numel() + row * width + column
        found.append((flat[at], known[at], owner))
    return _joined(found, boxes)


def boxed_objects(
    size: tuple[int, int], image_from_lidar: torch.Tensor, boxes: Sequence[torch.Tensor]
) -> ObjectPixels:
    """All pixels that boxes cover, at the depth where a ray enters the first: without any LiDAR.

    A surface is a little behind its box's, and what stands before an object but has no box counts
    as the object: labels say no more.

    Args:
        size: height and width of the depth maps.
        image_from_lidar: `(B, 3, 4)`.
        boxes: `(M_b, 7)` of each frame.

    >>> projection = torch.tensor([[[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]])
    >>> found = boxed_objects((1, 2), projection, [torch.tensor([[10.0, 0, -1, 4, 2, 2, 0]])])
    >>> found.pixels.tolist(), found.depth.tolist(), found.counts.tolist()
    ([0], [8.0], [1])
    """
    found = []
    for frame, (projection, theirs) in enumerate(zip(image_from_lidar, boxes, strict=True)):
        depth, which = (map_.flatten() for map_ in box_depth(theirs, projection, size))
        (at,) = depth.nonzero(as_tuple=True)
        found.append((frame * len(depth) + at, depth[at], which[at]))
    return _joined(found, boxes)


def log_errors(depth: torch.Tensor, objects: ObjectPixels) -> torch.Tensor:
    """`(K,)` log(depth) - log(truth) of the objects' pixels, of depth maps `(B, H, W)`."""
    answer = depth.float().flatten()[objects.pixels]
    return answer.clamp(min=1e-3).log() - objects.depth.log()


def pixel_loss(errors: torch.Tensor, objects: ObjectPixels, beta: float = 0.02) -> torch.Tensor:
    """The sum over objects of their pixels' mean smooth L1.

    Args:
        errors: `(K,)` of `log_errors`.
        objects: whose pixels they are of.
        beta: error below which the loss is a square; 0.02 are 2 % of the depth.

    >>> objects = ObjectPixels(torch.tensor([0, 1, 2]), torch.ones(3), torch.tensor([0, 0, 1]),
    ...                        torch.tensor([2, 1]))
    >>> pixel_loss(torch.tensor([0.11, -0.31, 0.02]), objects).round(decimals=3)
    tensor(0.2100)
    """
    each = functional.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none", beta=beta)
    return (each / objects.counts[objects.owners]).sum()


def shift_loss(errors: torch.Tensor, objects: ObjectPixels) -> torch.Tensor:
    """The sum over objects of |median error|: how far each lies off as a whole.

    The gradient goes to all pixels of an object alike, and not to the one in the middle alone: it
    is the whole that is to move.

    >>> objects = ObjectPixels(torch.tensor([0, 1, 2]), torch.ones(3), torch.tensor([0, 0, 0]),
    ...                        torch.tensor([3]))
    >>> shift_loss(torch.tensor([0.1, -0.2, -0.4]), objects).round(decimals=3)
    tensor(0.2000)
    """
    medians = object_medians(errors.detach(), objects)
    means = torch.zeros_like(medians).index_add(
        0, objects.owners, errors / objects.counts[objects.owners]
    )
    return (means - means.detach() + medians).abs().sum()


def object_medians(values: torch.Tensor, objects: ObjectPixels) -> torch.Tensor:
    """`(M,)` the median of each object's values `(K,)`; 0 for an object without a pixel.

    >>> objects = ObjectPixels(torch.arange(4), torch.ones(4), torch.tensor([2, 2, 0, 2]),
    ...                        torch.tensor([1, 0, 3]))
    >>> object_medians(torch.tensor([9.0, 5.0, 1.0, 6.0]), objects)
    tensor([1., 0., 6.])
    """
    if not len(values):
        return values.new_zeros(len(objects.counts))
    order = values.argsort()
    order = order[objects.owners[order].argsort(stable=True)]
    first = objects.counts.cumsum(0) - objects.counts
    low, high = (first + (objects.counts - less) // 2 for less in (1, 0))
    low, high = low.clamp(0, len(values) - 1), high.clamp(0, len(values) - 1)
    middle = (values[order[low]] + values[order[high]]) / 2
    return torch.where(objects.counts > 0, middle, 0)


def _joined(
    found: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    boxes: Sequence[torch.Tensor],
) -> ObjectPixels:
    """The pixels, depths and owners of all frames, whose objects are counted one after another."""
    pixels, depth, owners = [], [], []
    before = 0
    for (where, how_far, owner), theirs in zip(found, boxes, strict=True):
        pixels.append(where)
        depth.append(how_far)
        owners.append(owner + before)
        before += len(theirs)
    joined = torch.cat(owners)
    return ObjectPixels(
        torch.cat(pixels), torch.cat(depth), joined, torch.bincount(joined, minlength=before)
    )
