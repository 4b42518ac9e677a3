"""The depth loss, against its formula written out."""

import math

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
    loss = silog_loss(depth, truth)
    loss.backward()
    assert depth.grad[0].any()
    assert not depth.grad[1].any()
    assert loss.item() == pytest.approx(silog_loss(depth[:1], truth[:1]).item() / 2, rel=1e-4)


def test_a_single_pixel_near_the_camera_counts():
    truth = torch.zeros(1, 3, 3)
    truth[0, 1, 2] = 0.5
    found = silog_loss(torch.full((1, 3, 3), 2.0), truth).item()
    assert found == pytest.approx(math.sqrt(0.5) * math.log(4), rel=1e-5)


def test_a_depth_of_zero_counts_as_a_millimetre():
    depth = torch.zeros(1, 2, 2, requires_grad=True)
    loss = silog_loss(depth, torch.ones(1, 2, 2))
    assert loss.item() == pytest.approx(math.sqrt(0.5) * math.log(1000), rel=1e-5)
    loss.backward()
    assert depth.grad.isfinite().all()


def test_a_perfect_answer_has_the_least_loss():
    truth = torch.tensor([[[5.0, 20.0]]])
    assert silog_loss(truth, truth).item() == pytest.approx(1e-6, rel=1e-3)
