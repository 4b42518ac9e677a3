"""Sigmoid focal loss over class indices, in the form that mmcv's compiled op has."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def sigmoid_focal_loss(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """Focal loss of each class, `-alpha_t (1 - p_t)^gamma log(p_t)`; differentiable in `logits`.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 5. Computed from
    log-sigmoids, so large logits of either sign stay finite.

    Args:
        logits: (N, C) floating.
        target: (N,) int64 class, or any number outside 0 .. C - 1 for background.
        gamma: exponent on the distance from the truth.
        alpha: weight of the true class; the others weigh 1 - alpha.

    Returns:
        (N, C), not reduced.

    >>> sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([0]), gamma=2.0, alpha=0.25)
    tensor([[0.0433, 0.1300]])
    """
    classes = torch.arange(logits.shape[1], device=logits.device)
    is_class = target[:, None] == classes
    log_p = torch.where(is_class, F.logsigmoid(logits), F.logsigmoid(-logits))
    log_not_p = torch.where(is_class, F.logsigmoid(-logits), F.logsigmoid(logits))
    weight = (1 - alpha) + (2 * alpha - 1) * is_class.to(logits.dtype)
    return -weight * torch.exp(gamma * log_not_p) * log_p
