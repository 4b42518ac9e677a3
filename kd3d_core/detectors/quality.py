"""Quality focal loss of a head on labels (Li et al., 2020): scores learn how well boxes fit."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from kd3d_core.detectors.decode import HeadMaps, decode_deltas, per_anchor
from kd3d_core.geometry.boxes import footprints
from kd3d_core.geometry.rectangles import intersection_area


def quality_loss(
    maps: HeadMaps,
    anchors: torch.Tensor,
    boxes: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    num_classes: int,
) -> torch.Tensor:
    """The loss of all scores, for each sample divided by the boxes that hit an object; their mean.

    Args:
        maps: the head's answers.
        anchors: `(h * w * A, 7)`, in the head's order.
        boxes: `(M_b, 7)` true boxes of each sample.
        labels: `(M_b,)` int64 of each sample.
        num_classes: number of classes.
    """
    losses = []
    logits = per_anchor(maps.logits, num_classes).flatten(1, 3).float()
    deltas = per_anchor(maps.deltas, 7).flatten(1, 3).detach().float()
    for sample, (truth, kinds) in enumerate(zip(boxes, labels, strict=True)):
        target = quality_targets(decode_deltas(anchors, deltas[sample]), truth, kinds, num_classes)
        hits = (target > 0).any(1).sum().clamp(min=1)
        losses.append(quality_focal(logits[sample], target).sum() / hits)
    return torch.stack(losses).mean()


def quality_focal(logits: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """`|q - p|^2 BCE(p, q)` of every logit (Li et al., 2020, eq. 6, beta 2).

    p is the sigmoid of the logit, q its target of the same shape, in [0, 1].

    >>> quality_focal(torch.tensor([0.0]), torch.tensor([1.0]))  # 0.25 log 2
    tensor([0.1733])
    """
    logits = logits.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).abs().square() * entropy


@torch.no_grad()
def quality_targets(
    boxes: torch.Tensor, truth: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """`(N, classes)`: at the class of the true box that a box overlaps most, by how much (3D IoU).

    >>> truth = torch.tensor([[10.0, 0, -1, 4, 2, 2, 0]])
    >>> ahead, beside = truth + torch.tensor([2.0, 0, 0, 0, 0, 0, 0]), truth + 50
    >>> quality_targets(torch.cat([ahead, beside]), truth, torch.tensor([1]), 2)
    tensor([[0.0000, 0.3333],
            [0.0000, 0.0000]])

    Args:
        boxes: `(N, 7)` that a head has found.
        truth: `(M, 7)` true boxes.
        labels: `(M,)` int64 of the true ones.
        num_classes: number of classes.
    """
    target = boxes.new_zeros(len(boxes), num_classes)
    if not len(truth):
        return target
    # Boxes whose circles don't meet don't overlap; few pairs are left.
    reach = torch.linalg.vector_norm(boxes[:, 3:5], dim=1) / 2
    true_reach = torch.linalg.vector_norm(truth[:, 3:5], dim=1) / 2
    near = torch.cdist(boxes[:, :2], truth[:, :2]) < reach[:, None] + true_reach
    row, column = near.nonzero(as_tuple=True)
    overlaps = boxes.new_zeros(near.shape)
    overlaps[row, column] = aligned_iou_3d(boxes[row], truth[column])
    best, which = overlaps.max(1)
    target.scatter_(1, labels[which][:, None], best[:, None])
    return target


def aligned_iou_3d(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """`(N,)` intersection over union of each box `(N, 7)` with the other one of its row.

    >>> box = torch.tensor([[10.0, 0, -1, 4, 2, 2, 0]])
    >>> aligned_iou_3d(box, box + torch.tensor([0, 0, 1.0, 0, 0, 0, 0]))
    tensor([0.3333])
    """
    low = torch.maximum(boxes[:, 2], others[:, 2])
    high = torch.minimum(boxes[:, 2] + boxes[:, 5], others[:, 2] + others[:, 5])
    common = intersection_area(footprints(boxes), footprints(others)) * (high - low).clamp(min=0)
    whole = boxes[:, 3:6].prod(1) + others[:, 3:6].prod(1) - common
    return torch.where(whole > 0, common / whole, 0)
