"""Sigmoid focal loss against the definition in float64."""

import math

import pytest
import torch

from kd3d_core.ops import sigmoid_focal_loss


def by_definition(logit: float, is_class: bool, gamma: float, alpha: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    if is_class:
        return -alpha * (1 - p) ** gamma * math.log(p)
    return -(1 - alpha) * p**gamma * math.log(1 - p)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, 0.6)])
def test_equals_the_definition(device, dtype, gamma, alpha):
    logits = torch.randn(30, 3, dtype=dtype) * 3
    target = torch.arange(30) % 4  # 3 is background
    loss = sigmoid_focal_loss(logits.to(device), target.to(device), gamma, alpha)
    expected = [
        [by_definition(logit, t == c, gamma, alpha) for c, logit in enumerate(row)]
        for row, t in zip(logits.double().tolist(), target.tolist(), strict=True)
    ]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(
        loss.cpu().double(), torch.tensor(expected, dtype=torch.float64), rtol=tolerance, atol=1e-6
    )


def test_gradcheck(device):
    logits = torch.randn(6, 3, dtype=torch.float64, device=device, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 0, -1], device=device)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, target, 2.0, 0.25), logits)


def test_stays_finite_for_large_logits(device):
    logits = torch.tensor([[200.0, -200.0]], device=device, requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1], device=device), 2.0, 0.25)
    loss.sum().backward()
    torch.testing.assert_close(loss.cpu(), torch.tensor([[150.0, 50.0]]))
    torch.testing.assert_close(logits.grad.cpu(), torch.tensor([[0.75, -0.25]]))
