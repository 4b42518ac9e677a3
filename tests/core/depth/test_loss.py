"""The depth loss, against its formula written out."""

import numpy as np
import pytest
import torch

from kd3d_core.depth.loss import silog_loss


def test_equals_the_formula_per_image():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 60, (3, 5, 7))
    truth = rng.uniform(1, 60, (3, 5, 7)) * (rng.random((3, 5, 7)) > 0.6)
    expected = []
    for guess, true in zip(depth, truth, strict=True):
        d = [np.log(g) - np.log(t) for g, t in zip(guess.flat, true.flat, strict=True) if t > 0]
        expected.append(np.sqrt(np.mean(np.square(d)) - 0.5 * np.mean(d) ** 2))
    loss = silog_loss(torch.from_numpy(depth), torch.from_numpy(truth))
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-9)


def test_ignores_the_scale_only_if_told_to():
    truth = torch.rand(1, 6, 6) * 50 + 1
    assert float(silog_loss(truth * 2, truth, variance_focus=1.0)) < 1e-3
    assert float(silog_loss(truth * 2, truth, variance_focus=0.0)) == pytest.approx(np.log(2))


def test_gradients_are_right_and_finite_at_a_perfect_answer():
    truth = torch.tensor([[[5.0, 0.0], [20.0, 3.0]]], dtype=torch.float64)
    depth = torch.tensor([[[4.0, 9.0], [25.0, 3.5]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: silog_loss(d, truth), depth)
    perfect = truth.clamp(min=1).requires_grad_()
    silog_loss(perfect, truth).backward()
    assert torch.isfinite(perfect.grad).all()


def test_an_image_without_truth_adds_nothing():
    depth = torch.rand(2, 4, 4, requires_grad=True)
    truth = torch.rand(2, 4, 4) + 1
    truth[1] = 0
    silog_loss(depth, truth).backward()
    assert depth.grad[0].any()
    assert not depth.grad[1].any()
