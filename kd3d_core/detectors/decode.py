"""From the maps of an anchor head to boxes, in fixed shapes: nothing waits for the device."""

import math
from dataclasses import dataclass

import torch

from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.geometry.boxes import footprints
from kd3d_core.ops import nms_rotated_mask

DIRECTION_OFFSET = -math.pi / 2
"""Yaw from which the first of the two headings reaches half a turn further, radians."""


@dataclass(frozen=True)
class HeadMaps:
    """What an anchor head says about a BEV grid of h x w cells with A anchors each.

    Attributes:
        logits: `(B, A * classes, h, w)`.
        deltas: `(B, A * 7, h, w)` encoded boxes.
        directions: `(B, A * 2, h, w)` logits of the two headings.
    """

    logits: torch.Tensor
    deltas: torch.Tensor
    directions: torch.Tensor


@dataclass(frozen=True)
class BoxSlots:
    """The best `max_boxes` boxes per sample; slots that no box fills have `valid` False.

    Attributes:
        boxes: `(B, M, 7)` in the detector frame.
        scores: `(B, M)` in [0, 1], falling.
        labels: `(B, M)` int64.
        valid: `(B, M)` bool.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    valid: torch.Tensor


def decode(
    maps: HeadMaps,
    anchors: torch.Tensor,
    num_classes: int,
    config: DecodeConfig,
) -> BoxSlots:
    """Boxes of every sample, as mmdet3d's `Anchor3DHead.predict` finds them.

    Args:
        maps: the head's answers.
        anchors: `(h * w * A, 7)`, in the head's order.
        num_classes: number of classes.
        config: thresholds and counts.
    """
    batch = len(maps.logits)
    logits, deltas, directions = (
        per_anchor(part, channels).flatten(1, 3)
        for part, channels in ((maps.logits, num_classes), (maps.deltas, 7), (maps.directions, 2))
    )

    count = min(config.pre_nms, logits.shape[1])
    best = logits.amax(-1).topk(count).indices
    scores = _rows(logits, best).float().sigmoid()
    boxes = decode_deltas(anchors[best], _rows(deltas, best).float())
    flip = _rows(directions, best).argmax(-1)

    # One candidate per anchor and class; classes never suppress each other.
    kept = nms_rotated_mask(
        footprints(boxes)[:, None],
        scores.mT,
        config.nms_iou,
        valid=scores.mT > config.score_threshold,
    )
    kept, candidate_scores = kept.mT.flatten(1), scores.flatten(1)
    labels = torch.arange(num_classes, device=scores.device).repeat(count).expand(batch, -1)
    ranked = torch.where(kept, candidate_scores, -1.0)
    top, slot = ranked.topk(min(config.max_boxes, ranked.shape[1]))
    boxes = _rows(boxes, slot // num_classes)
    yaw = boxes[..., 6] - DIRECTION_OFFSET
    yaw = yaw - torch.floor(yaw / math.pi) * math.pi
    yaw = yaw + DIRECTION_OFFSET + math.pi * flip.gather(1, slot // num_classes)
    boxes = torch.cat([boxes[..., :6], yaw[..., None]], -1)
    return BoxSlots(boxes, top.clamp(min=0), labels.gather(1, slot), top >= 0)


def decode_deltas(anchors: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """Boxes `(..., 7)` from anchors and SECOND's encoding (Yan et al., 2018, eq. 1).

    >>> anchor = torch.tensor([10.0, 0.0, -1.0, 4.0, 3.0, 2.0, 0.0])
    >>> decode_deltas(anchor, torch.tensor([0.2, 0.0, 0.5, 0.0, 0.0, 0.0, 0.1]))
    tensor([11.0000,  0.0000,  0.0000,  4.0000,  3.0000,  2.0000,  0.1000])
    """
    x, y, z, length, width, height, yaw = anchors.unbind(-1)
    dx, dy, dz, dl, dw, dh, dyaw = deltas.unbind(-1)
    diagonal = torch.sqrt(length**2 + width**2)
    new_height = height * dh.exp()
    center_z = z + height / 2 + dz * height
    return torch.stack(
        [
            x + dx * diagonal,
            y + dy * diagonal,
            center_z - new_height / 2,
            length * dl.exp(),
            width * dw.exp(),
            new_height,
            yaw + dyaw,
        ],
        -1,
    )


def per_anchor(maps: torch.Tensor, channels: int) -> torch.Tensor:
    """`(B, h, w, A, C)` view of a head's `(B, A * C, h, w)`: the anchors in their order.

    >>> per_anchor(torch.zeros(2, 6 * 7, 200, 176), 7).shape
    torch.Size([2, 200, 176, 6, 7])
    """
    return maps.permute(0, 2, 3, 1).unflatten(-1, (-1, channels))


def _rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`values[b, index[b]]` for `(B, N, C)` values and `(B, K)` indices."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
