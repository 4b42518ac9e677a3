"""What a student is compared by: features, class logits, boxes, headings.

Each is a sum over cells or anchors, in float32. What it is divided by (the cells' weights,
the number of anchors that the teacher is sure of) may have to be counted over several processes.
Anchors come before channels, as `kd3d_core.detectors.decode.per_anchor` puts them.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kd3d_core.detectors.quality import quality_focal
from kd3d_core.distill.config import ClassKind, FeatureKind


def feature_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    weights: torch.Tensor,
    kind: FeatureKind = "mse",
) -> torch.Tensor:
    """Mean over channels, and weighted sum over cells, of what two feature maps differ by.

    Two maps in half precision are subtracted in it: the maps are large, their bytes are what the
    squares cost, and the gradient ends in it anyway.

    Args:
        student: `(B, C, h, w)`, projected to the teacher's channels.
        teacher: `(B, C, h, w)`.
        weights: `(B, 1, h, w)` of the cells.
        kind: square of the difference, or torch's smooth L1 with beta 1.
    """
    if kind == "mse":
        return _WeightedSquares.apply(student - teacher, weights) / student.shape[1]
    error = functional.smooth_l1_loss(student.float(), teacher.float(), reduction="none")
    return (error.mean(1, keepdim=True) * weights).sum()


class _WeightedSquares(torch.autograd.Function):
    """`sum(weights * difference^2)` in single precision, reading the difference once each way."""

    @staticmethod
    def forward(ctx: Any, difference: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(difference, weights)
        wide = torch.promote_types(difference.dtype, torch.float32)
        lengths = torch.linalg.vector_norm(difference, dim=1, keepdim=True, dtype=wide)
        return (lengths.square() * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        difference, weights = ctx.saved_tensors
        return difference * (2 * gradients[0] * weights).to(difference.dtype), None


def confidence_weights(
    logits: torch.Tensor, threshold: float, background: float = 0.0
) -> torch.Tensor:
    """`(..., N)`: the teacher's confidence in each anchor if above `threshold`, else `background`.

    Its confidence is the best class's probability of its logits `(..., N, classes)`.
    """
    confidence = logits.float().sigmoid().amax(-1)
    return torch.where(confidence > threshold, confidence, background)


def class_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    weights: torch.Tensor,
    kind: ClassKind = "kl",
    temperature: float = 1.0,
) -> torch.Tensor:
    """Difference of the class probabilities, each class on its own (sigmoid).

    `kl` is `binary_kl` with the temperature; `quality_focal` has none.

    Args:
        student, teacher: `(..., N, classes)` logits.
        weights: `(..., N)` of the anchors.
    """
    if kind == "kl":
        each = binary_kl(student, teacher, temperature)
    else:
        each = quality_focal(student, teacher.float().sigmoid())
    return (each.sum(-1) * weights).sum()


def binary_kl(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """`T^2 KL(sigmoid(t / T) || sigmoid(s / T))` of every logit, 0 where they are equal.

    The factor keeps the gradients' size independent of the temperature (Hinton et al., 2015), of
    which high ones make small probabilities count for more.
    """
    s, t = student.float() / temperature, teacher.float() / temperature
    wanted = t.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(s, wanted, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(t, wanted, reduction="none")
    return (cross_entropy - entropy) * temperature**2


def box_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Smooth L1 (beta 1/9) of encoded boxes, of the headings by the sine of their difference.

    A box turned by pi is the same box here (Yan et al., 2018, eq. 3); `direction_loss` tells the
    two headings apart.

    Args:
        student, teacher: `(..., N, 7)` deltas of the anchors, the last of them yaw in radians.
        weights: `(..., N)` of the anchors.
    """
    return (_box_differences(student, teacher) * weights).sum()


def _box_differences(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """`(..., N)` smooth L1 of encoded boxes `(..., N, 7)`; see `box_loss`."""
    difference = student.float() - teacher.float()
    difference = torch.cat([difference[..., :6], difference[..., 6:].sin()], -1)
    zero = torch.zeros_like(difference)
    return functional.smooth_l1_loss(difference, zero, reduction="none", beta=1 / 9).sum(-1)


def direction_loss(
    student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """`KL(softmax(t) || softmax(s))` of the headings: logits `(..., N, 2)`, weights `(..., N)`."""
    wanted, answer = teacher.float().log_softmax(-1), student.float().log_softmax(-1)
    each = functional.kl_div(answer, wanted, reduction="none", log_target=True).sum(-1)
    return (each * weights).sum()


def class_responses(student: torch.Tensor, teacher: torch.Tensor, threshold: float) -> torch.Tensor:
    """`(B,)`: the quality focal loss of all scores, with the teacher's as the quality.

    For each class it is divided by the anchors that the teacher gives more than `threshold`, at
    least 1, and the classes are summed up.

    >>> student, teacher = torch.zeros(1, 4, 1), torch.full((1, 4, 1), 100.0)  # p 1/2 and 1
    >>> class_responses(student, teacher, 0.1)  # 0.25 log 2
    tensor([0.1733])

    Args:
        student, teacher: `(B, N, classes)` logits of the anchors.
        threshold: a probability.
    """
    quality = teacher.float().sigmoid()
    positive = (quality > threshold).sum(1).clamp(min=1)
    return (quality_focal(student, quality).sum(1) / positive).sum(1)


def box_responses(
    boxes: torch.Tensor,
    teacher_boxes: torch.Tensor,
    directions: torch.Tensor,
    teacher_directions: torch.Tensor,
    teacher_logits: torch.Tensor,
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`(B,)` each: what boxes and headings differ by where the teacher is confident.

    An anchor's confidence is the sum of the teacher's probabilities over classes. Of those above
    `threshold`, each counts by its confidence, divided by their number, at least 1. Boxes differ by
    `box_loss`; headings by the cross entropy with the one that the teacher finds likelier.

    Args:
        boxes, teacher_boxes: `(B, N, 7)` deltas of the anchors.
        directions, teacher_directions: `(B, N, 2)` logits.
        teacher_logits: `(B, N, classes)`.
        threshold: of the confidence.

    >>> sure, logits = torch.full((1, 2, 1), 100.0), torch.zeros(1, 2, 2)
    >>> moved = torch.tensor([[[1.0, 0, 0, 0, 0, 0, torch.pi], [0] * 7]])  # turned: no difference
    >>> box_responses(torch.zeros(1, 2, 7), moved, logits, logits, sure, 0.1)
    (tensor([0.4722]), tensor([0.6931]))
    """
    confidence = teacher_logits.float().sigmoid().sum(-1)
    weights = torch.where(confidence > threshold, confidence, 0)
    weights = weights / (weights > 0).sum(1, keepdim=True).clamp(min=1)
    rows, at = weights.nonzero(as_tuple=True)
    theirs = teacher_directions[rows, at].argmax(-1)
    entropy = functional.cross_entropy(directions[rows, at].float(), theirs, reduction="none")
    each = _box_differences(boxes[rows, at], teacher_boxes[rows, at])
    empty = weights.new_zeros(len(weights))
    return (
        empty.index_add(0, rows, weights[rows, at] * each),
        empty.index_add(0, rows, weights[rows, at] * entropy),
    )


def depth_focal_loss(
    logits: torch.Tensor, classes: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> torch.Tensor:
    """`(B, h, w)`: `-alpha (1 - p)^gamma log p` of the true bin (Lin et al., 2017).

    >>> depth_focal_loss(torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1, dtype=torch.int64))
    tensor([[[0.0433]]])

    Args:
        logits: `(B, bins + 1, h, w)`.
        classes: `(B, h, w)` int64 from 0 to `bins`; the loss is 0 where it is negative.
    """
    known = classes >= 0
    chosen = classes.clamp(min=0)[:, None]
    log_p = logits.float().log_softmax(1).gather(1, chosen)[:, 0]
    return torch.where(known, -alpha * (1 - log_p.exp()) ** gamma * log_p, 0)
