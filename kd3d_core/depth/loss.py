"""Scale-invariant logarithmic loss (Eigen et al., 2014, eq. 4)."""

import torch


def silog_loss(
    depth: torch.Tensor, truth: torch.Tensor, variance_focus: float = 0.5
) -> torch.Tensor:
    """sqrt(mean(d^2) - variance_focus * mean(d)^2) with d = log(depth) - log(truth).

    Means are taken per image and the loss is their images' mean, so that a batch split over
    processes has the loss and the gradients of the whole.

    Args:
        depth: `(B, H, W)` predicted metres, positive.
        truth: `(B, H, W)` metres, 0 where unknown.
        variance_focus: 0 punishes the absolute scale in full, 1 not at all.

    Returns:
        Scalar; images without a known pixel count as 0.
    """
    known = truth > 0
    count = known.sum((1, 2)).clamp(min=1)
    safe = torch.where(known, truth, 1.0)
    difference = torch.where(known, depth.clamp(min=1e-3).log() - safe.log(), 0.0)
    mean = difference.sum((1, 2)) / count
    square = difference.square().sum((1, 2)) / count
    # The gradient of a root is unbounded at 0, which a perfect image would reach.
    return (square - variance_focus * mean.square()).clamp(min=1e-12).sqrt().mean()
