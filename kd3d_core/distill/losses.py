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
    difference = student.float() - teacher.float()
    difference = torch.cat([difference[..., :6], difference[..., 6:].sin()], -1)
    zero = torch.zeros_like(difference)
    each = functional.smooth_l1_loss(difference, zero, reduction="none", beta=1 / 9)
    return (each.sum(-1) * weights).sum()


def direction_loss(
    student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """`KL(softmax(t) || softmax(s))` of the headings: logits `(..., N, 2)`, weights `(..., N)`."""
    wanted, answer = teacher.float().log_softmax(-1), student.float().log_softmax(-1)
    each = functional.kl_div(answer, wanted, reduction="none", log_target=True).sum(-1)
    return (each * weights).sum()
