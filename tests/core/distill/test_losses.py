"""Losses against torch's and mmdet's own, hand computations, and what must not change them."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional

from kd3d_core.detectors.quality import quality_focal
from kd3d_core.distill.losses import (
    binary_kl,
    box_loss,
    class_loss,
    confidence_weights,
    direction_loss,
    feature_loss,
)
from kd3d_core.ops import mmcv_ext

mmcv_ext.install()  # mmdet's losses import mmcv's compiled functions


def drawn(*shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    return spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestFeatures:
    @pytest.mark.parametrize(
        ("kind", "reference"),
        [("mse", functional.mse_loss), ("smooth_l1", functional.smooth_l1_loss)],
    )
    def test_equal_weights_give_torchs_mean_times_the_cells(self, kind, reference):
        student, teacher = drawn(2, 5, 3, 4, spread=3), drawn(2, 5, 3, 4, seed=1)
        loss = feature_loss(student, teacher, torch.ones(2, 1, 3, 4), kind)
        torch.testing.assert_close(loss / 24, reference(student, teacher))

    def test_weights_by_hand(self):
        student = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]])  # two channels, two cells
        weights = torch.tensor([[[[0.5, 2.0]]]])
        loss = feature_loss(student, torch.zeros_like(student), weights)
        assert loss.item() == pytest.approx(0.5 * (1 + 9) / 2 + 2 * (4 + 0) / 2)

    def test_smooth_l1_weights_by_hand(self):
        student = torch.tensor([[[[0.5, 2.0]], [[3.0, 0.0]]]])
        weights = torch.tensor([[[[0.5, 2.0]]]])
        loss = feature_loss(student, torch.zeros_like(student), weights, "smooth_l1")
        assert loss.item() == pytest.approx(0.5 * (0.125 + 2.5) / 2 + 2 * (1.5 + 0) / 2)

    def test_a_cell_without_weight_has_no_gradient(self):
        student = drawn(1, 3, 2, 2).requires_grad_()
        weights = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
        feature_loss(student, torch.zeros(1, 3, 2, 2), weights).backward()
        assert (student.grad[0, :, 0, 1] == 0).all()
        torch.testing.assert_close(student.grad[0, :, 0, 0], 2 / 3 * student.detach()[0, :, 0, 0])

    @pytest.mark.parametrize("kind", ["mse", "smooth_l1"])
    def test_half_precision_is_summed_in_single(self, kind):
        student = drawn(1, 64, 32, 32, spread=3).bfloat16().requires_grad_()
        teacher = drawn(1, 64, 32, 32, seed=1).bfloat16()
        exact = student.detach().float().requires_grad_()
        weights = drawn(1, 1, 32, 32, seed=2).abs()
        loss = feature_loss(student, teacher, weights, kind)
        expected = feature_loss(exact, teacher.float(), weights, kind)
        loss.backward()
        expected.backward()
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
        assert (student.grad - exact.grad).norm() < 5e-3 * exact.grad.norm()


class TestClasses:
    @pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
    def test_kl_is_torchs_between_bernoullis(self, temperature):
        student, teacher = drawn(50, 3, spread=3), drawn(50, 3, seed=1, spread=3)
        expected = kl_divergence(
            Bernoulli(logits=teacher.double() / temperature),
            Bernoulli(logits=student.double() / temperature),
        )
        found = binary_kl(student, teacher, temperature).double()
        torch.testing.assert_close(found, temperature**2 * expected, atol=1e-5, rtol=1e-4)

    def test_kl_has_its_minimum_where_both_agree(self):
        teacher = drawn(20, seed=2, spread=4)
        assert binary_kl(teacher, teacher).abs().max() < 1e-6
        student = teacher.clone().requires_grad_()
        binary_kl(student, teacher, 2.0).sum().backward()
        assert student.grad.abs().max() < 1e-6

    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_gradient_of_kl_is_the_difference_of_probabilities(self, temperature):
        student, teacher = drawn(30, spread=2).requires_grad_(), drawn(30, seed=1, spread=2)
        binary_kl(student, teacher, temperature).sum().backward()
        s, t = ((x.detach() / temperature).sigmoid() for x in (student, teacher))
        torch.testing.assert_close(student.grad, temperature * (s - t), atol=1e-5, rtol=1e-4)

    def test_extreme_logits_stay_finite(self):
        logits = torch.tensor([-200.0, 200.0, 0.0])
        student = logits[:, None].expand(3, 3).clone().requires_grad_()
        teacher = logits.expand(3, 3)
        loss = binary_kl(student, teacher) + quality_focal(student, teacher.sigmoid())
        loss.sum().backward()
        assert torch.isfinite(loss).all()
        assert torch.isfinite(student.grad).all()

    def test_quality_focal_is_mmdets(self):
        from mmdet.models.losses.gfocal_loss import quality_focal_loss

        student = drawn(40, 3, spread=2)
        generator = torch.Generator().manual_seed(3)
        label = torch.randint(0, 4, (40,), generator=generator)  # 3 is background
        score = torch.rand(40, generator=generator)
        quality = torch.zeros(40, 3)
        found = label < 3
        quality[found, label[found]] = score[found]
        expected = quality_focal_loss.__wrapped__(student, (label, score), beta=2.0)
        torch.testing.assert_close(quality_focal(student, quality).sum(1), expected)

    def test_sum_over_classes_is_weighted_by_anchor(self):
        student, teacher = drawn(2, 4, 3), drawn(2, 4, 3, seed=1)
        weights = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0.25]])
        each = binary_kl(student, teacher, 2.0).sum(-1)
        expected = each[0, 0] + 0.25 * each[1, 3]
        torch.testing.assert_close(class_loss(student, teacher, weights, "kl", 2.0), expected)
        focal = quality_focal(student, teacher.sigmoid()).sum(-1)
        found = class_loss(student, teacher, weights, "quality_focal")
        torch.testing.assert_close(found, focal[0, 0] + 0.25 * focal[1, 3])


def test_losses_are_those_of_single_precision_over_several_frames_in_half():
    """`(B, N, C)` in bf16: as the rounded values in float32, frame by frame."""
    weights = drawn(3, 4, seed=9).abs()
    for loss, channels in (
        (lambda s, t, w: class_loss(s, t, w, "kl"), 3),
        (lambda s, t, w: class_loss(s, t, w, "quality_focal"), 3),
        (box_loss, 7),
        (direction_loss, 2),
    ):
        student, teacher = (drawn(3, 4, channels, seed=i, spread=2).bfloat16() for i in (0, 1))
        found = loss(student, teacher, weights)
        assert found.dtype == torch.float32
        frames = zip(student.float(), teacher.float(), weights, strict=True)
        expected = sum(loss(*frame) for frame in frames)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


def test_the_temperature_is_1_unless_said():
    student, teacher = drawn(5, 3), drawn(5, 3, seed=1)
    assert torch.equal(binary_kl(student, teacher), binary_kl(student, teacher, 1.0))
    ones = torch.ones(5)
    assert torch.equal(
        class_loss(student, teacher, ones), class_loss(student, teacher, ones, "kl", 1.0)
    )


def test_confidence_is_of_the_best_class_of_each_anchor():
    logits = drawn(2, 4, 3)
    expected = logits.sigmoid().max(-1).values
    torch.testing.assert_close(confidence_weights(logits, 0.0), expected)
    # One that lies on the threshold doesn't count.
    assert confidence_weights(torch.zeros(1, 3), 0.5, background=0.1).tolist() == pytest.approx(
        [0.1]
    )


def test_confidence_counts_above_its_threshold():
    probabilities = torch.tensor([[0.05, 0.09], [0.2, 0.7], [0.11, 0.02]])
    logits = torch.logit(probabilities)
    torch.testing.assert_close(confidence_weights(logits, 0.1), torch.tensor([0, 0.7, 0.11]))
    with_background = confidence_weights(logits, 0.1, background=0.3)
    torch.testing.assert_close(with_background, torch.tensor([0.3, 0.7, 0.11]))


class TestBoxes:
    def test_is_mmdet3ds_loss_with_its_sine_difference(self):
        from mmdet3d.models.dense_heads import Anchor3DHead

        student, teacher = drawn(60, 7), drawn(60, 7, seed=1)
        weights = torch.rand(60, generator=torch.Generator().manual_seed(2))
        ours, theirs = Anchor3DHead.add_sin_difference(student, teacher)
        each = functional.smooth_l1_loss(ours, theirs, reduction="none", beta=1 / 9)
        expected = (each * weights[:, None]).sum()
        torch.testing.assert_close(box_loss(student, teacher, weights), expected)

    def test_by_hand(self):
        teacher = torch.zeros(1, 7)
        student = torch.tensor([[0.05, 0, 0, 1.0, 0, 0, math.pi / 2]])
        expected = 0.5 * 0.05**2 * 9 + (1 - 0.5 / 9) + (1 - 0.5 / 9)
        assert box_loss(student, teacher, torch.ones(1)).item() == pytest.approx(expected)

    def test_a_heading_turned_by_pi_is_the_same_box(self):
        student, teacher, weights = drawn(9, 7), drawn(9, 7, seed=1), torch.ones(9)
        turned = student + math.pi * torch.tensor([0.0, 0, 0, 0, 0, 0, 1])
        torch.testing.assert_close(
            box_loss(turned, teacher, weights), box_loss(student, teacher, weights)
        )
        assert box_loss(student + 0.5, teacher, weights) != box_loss(student, teacher, weights)

    def test_gradient_is_the_clipped_difference(self):
        student, weights = drawn(8, 7).requires_grad_(), torch.tensor([0.3, 0, 1, 0.5, 1, 1, 1, 1])
        box_loss(student, torch.zeros(8, 7), weights).backward()
        x = student.detach()
        expected = (9 * x).clamp(-1, 1)
        expected[:, 6] = (9 * x[:, 6].sin()).clamp(-1, 1) * x[:, 6].cos()
        torch.testing.assert_close(student.grad, weights[:, None] * expected)


def test_directions_are_torchs_kl_between_categoricals():
    student, teacher = drawn(30, 2, spread=2), drawn(30, 2, seed=1, spread=2)
    weights = torch.rand(30, generator=torch.Generator().manual_seed(2))
    expected = kl_divergence(Categorical(logits=teacher), Categorical(logits=student))
    found = direction_loss(student, teacher, weights)
    torch.testing.assert_close(found, (expected * weights).sum())
    assert direction_loss(teacher, teacher + 7.0, weights).abs() < 1e-5
