"""Sparse convolution against `torch.nn.functional` on the dense grid."""

import itertools

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from kd3d_core.errors import Kd3dError
from kd3d_core.ops import (
    Rulebook,
    sparse_conv,
    sparse_conv3d,
    strided_rulebook,
    submanifold_rulebook,
)

SHAPE = (6, 9, 8)
BATCH = 2


def random_sites(device: torch.device, shape=SHAPE, fill: float = 0.2) -> Tensor:
    """Distinct sites of a batch in random order, (N, 4) int32."""
    coords = (torch.rand(BATCH, *shape) < fill).nonzero()
    return coords[torch.randperm(len(coords))].to(device, torch.int32)


def densify(features: Tensor, coords: Tensor, shape=SHAPE) -> Tensor:
    dense = features.new_zeros((BATCH, *shape, features.shape[1]))
    dense[tuple(coords.long().T)] = features
    return dense.permute(0, 4, 1, 2, 3)


def sites_of(dense: Tensor, coords: Tensor) -> Tensor:
    return dense.permute(0, 2, 3, 4, 1)[tuple(coords.long().T)]


def dense_kernel(weight: Tensor) -> Tensor:
    """(kz, ky, kx, in, out) -> (out, in, kz, ky, kx)."""
    return weight.permute(4, 3, 0, 1, 2)


def as_rows(coords: Tensor) -> set[tuple[int, ...]]:
    return {tuple(row) for row in coords.tolist()}


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-5, atol=1e-5)


STRIDED = [
    # kernel, stride, padding, dilation
    ((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (0, 1, 1), (1, 1, 1)),
    ((3, 1, 1), (2, 1, 1), (0, 0, 0), (1, 1, 1)),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1)),
    ((3, 3, 3), (1, 1, 1), (2, 0, 1), (1, 2, 3)),
    ((2, 3, 1), (3, 2, 1), (1, 1, 0), (1, 2, 1)),
]


class TestSubmanifold:
    @pytest.mark.parametrize(
        ("kernel", "dilation"),
        [
            ((3, 3, 3), (1, 1, 1)),
            ((1, 3, 5), (1, 1, 1)),
            ((3, 3, 3), (2, 1, 3)),
            ((1,) * 3, (1,) * 3),
        ],
    )
    def test_is_a_dense_convolution_read_at_the_sites(self, device, dtype, kernel, dilation):
        coords = random_sites(device)
        features = torch.randn(len(coords), 3, device=device, dtype=dtype)
        weight = torch.randn(*kernel, 3, 5, device=device, dtype=dtype)

        rulebook = submanifold_rulebook(coords, SHAPE, kernel, dilation)
        out = sparse_conv3d(features, weight, rulebook)

        padding = [d * (k // 2) for d, k in zip(dilation, kernel, strict=True)]
        dense = F.conv3d(
            densify(features, coords).double().cpu(),
            dense_kernel(weight).double().cpu(),
            padding=padding,
            dilation=dilation,
        )
        assert torch.equal(rulebook.out_coords, coords)
        close(out.cpu(), sites_of(dense, coords.cpu()))

    def test_does_not_join_samples_or_wrap_around_the_grid(self, device):
        """Sites at opposite ends of a row, a plane and a sample are neighbours in memory only."""
        ends = [[0, 0, 0, SHAPE[2] - 1], [0, 0, 1, 0], [0, *(n - 1 for n in SHAPE)], [1, 0, 0, 0]]
        coords = torch.tensor(ends, device=device, dtype=torch.int32)
        features = torch.ones(4, 1, device=device)
        out = sparse_conv3d(
            features,
            torch.ones(3, 3, 3, 1, 1, device=device),
            submanifold_rulebook(coords, SHAPE, (3, 3, 3)),
        )
        close(out, features)

    def test_rejects_even_kernels(self, device):
        with pytest.raises(Kd3dError, match=r"\(2, 3, 3\).*odd"):
            submanifold_rulebook(random_sites(device), SHAPE, (2, 3, 3))


class TestStrided:
    @pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), STRIDED)
    def test_is_a_dense_convolution(self, device, dtype, kernel, stride, padding, dilation):
        coords = random_sites(device, fill=0.1)
        features = torch.randn(len(coords), 3, device=device, dtype=dtype)
        weight = torch.randn(*kernel, 3, 5, device=device, dtype=dtype)

        rulebook = strided_rulebook(coords, SHAPE, kernel, stride, padding, dilation)
        out = sparse_conv3d(features, weight, rulebook)

        def conv(x, w):
            return F.conv3d(x, w, stride=stride, padding=padding, dilation=dilation)

        dense = conv(densify(features, coords).double().cpu(), dense_kernel(weight).double().cpu())
        close(densify(out, rulebook.out_coords, rulebook.out_shape).cpu(), dense)
        occupied = densify(torch.ones(len(coords), 1), coords.cpu())
        reached = conv(occupied, torch.ones(1, 1, *kernel))[:, 0].nonzero()
        assert as_rows(rulebook.out_coords) == as_rows(reached)
        assert rulebook.out_coords.tolist() == sorted(rulebook.out_coords.tolist())


def small_rulebook(kind: str, coords: Tensor) -> Rulebook:
    if kind == "submanifold":
        return submanifold_rulebook(coords, (3, 4, 4), (3, 3, 3))
    return strided_rulebook(coords, (3, 4, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1))


class TestGradients:
    @pytest.mark.parametrize("kind", ["submanifold", "strided"])
    def test_gradcheck(self, device, kind):
        coords = random_sites(device, (3, 4, 4))
        rulebook = small_rulebook(kind, coords)
        features = torch.randn(len(coords), 2, device=device, dtype=torch.float64)
        weight = torch.randn(3, 3, 3, 2, 3, device=device, dtype=torch.float64)
        assert torch.autograd.gradcheck(
            lambda x, w: sparse_conv3d(x, w, rulebook),
            (features.requires_grad_(), weight.requires_grad_()),
        )

    def test_equal_those_of_the_dense_convolution(self, device):
        coords = random_sites(device)
        features = torch.randn(len(coords), 3, device=device, dtype=torch.float64)
        weight = torch.randn(3, 3, 3, 3, 4, device=device, dtype=torch.float64)
        rulebook = strided_rulebook(coords, SHAPE, (3, 3, 3), (2, 2, 2), (1, 1, 1))
        inputs = (features.requires_grad_(), weight.requires_grad_())
        sparse = sparse_conv3d(*inputs, rulebook)
        dense = F.conv3d(densify(features, coords), dense_kernel(weight), stride=2, padding=1)
        for ours, theirs in zip(
            torch.autograd.grad(sparse.sin().sum(), inputs),
            torch.autograd.grad(dense.sin().sum(), inputs),
            strict=True,
        ):
            close(ours, theirs)


class TestWays:
    """A GPU gathers all places of the kernel at once, in pieces; the CPU goes place by place."""

    @pytest.mark.parametrize("limit", [1, 500, 1 << 26])
    def test_gathered_at_once_equals_place_by_place(self, monkeypatch, limit):
        monkeypatch.setattr(sparse_conv, "_GATHER_LIMIT", limit)
        coords = random_sites(torch.device("cpu"), (3, 4, 4))
        sources = small_rulebook("strided", coords).inputs_of_outputs
        features = torch.randn(len(coords), 2, dtype=torch.float64)
        weight = torch.randn(3, 3, 3, 2, 3, dtype=torch.float64)
        grad = torch.randn(sources.shape[1], 3, dtype=torch.float64)

        close(
            sparse_conv.gathered_conv(features, weight.flatten(0, 2), sources),
            sparse_conv.conv_features(features, weight, sources),
        )
        close(
            sparse_conv.gathered_weight_gradient(features, grad, sources),
            sparse_conv.conv_weight_gradient(features, grad, sources),
        )

    def test_features_in_half_precision_meet_weights_in_single(self):
        """As under autocast, where neither way may be given two dtypes."""
        coords = random_sites(torch.device("cpu"), (3, 4, 4))
        sources = small_rulebook("submanifold", coords).inputs_of_outputs
        features, grad = torch.randn(2, len(coords), 4).bfloat16()
        weight = torch.randn(3, 3, 3, 4, 4)
        exact = sparse_conv.conv_features(features.float(), weight, sources)
        with torch.autocast("cpu", torch.bfloat16):
            rough = sparse_conv.conv_features(features, weight, sources)
            mixed = sparse_conv.conv_features(features.float(), weight, sources)
            gradient = sparse_conv.conv_weight_gradient(features, grad.float(), sources)
        assert rough.dtype == torch.bfloat16
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(rough.float(), exact, atol=0.2, rtol=0.05)
        torch.testing.assert_close(mixed, exact, atol=0.2, rtol=0.05)
        assert gradient.shape == (27, 4, 4)


class TestEmpty:
    @pytest.mark.parametrize("kind", ["submanifold", "strided"])
    def test_no_sites_give_no_outputs(self, device, kind):
        coords = torch.zeros(0, 4, dtype=torch.int32, device=device)
        rulebook = small_rulebook(kind, coords)
        features = torch.zeros(0, 2, device=device, requires_grad=True)
        weight = torch.ones(3, 3, 3, 2, 3, device=device, requires_grad=True)
        out = sparse_conv3d(features, weight, rulebook)
        out.sum().backward()
        assert out.shape == (0, 3)
        assert weight.grad is not None
        assert not weight.grad.any()

    def test_sites_that_no_kernel_reaches(self, device):
        """Stride 2 without padding and with a kernel of 1 passes over the odd places."""
        coords = torch.tensor([[0, 1, 1, 1]], dtype=torch.int32, device=device)
        rulebook = strided_rulebook(coords, SHAPE, (1, 1, 1), (2, 2, 2), (0, 0, 0))
        out = sparse_conv3d(
            torch.ones(1, 2, device=device), torch.ones(1, 1, 1, 2, 3, device=device), rulebook
        )
        assert out.shape == (0, 3)


class TestRulebook:
    @pytest.mark.parametrize("kind", ["submanifold", "strided"])
    def test_both_tables_say_the_same(self, device, kind):
        coords = random_sites(device, (3, 4, 4))
        rulebook = small_rulebook(kind, coords)
        forward = {
            (k, source, target)
            for k, row in enumerate(rulebook.inputs_of_outputs.tolist())
            for target, source in enumerate(row)
            if source >= 0
        }
        backward = {
            (k, source, target)
            for k, row in enumerate(rulebook.outputs_of_inputs.tolist())
            for source, target in enumerate(row)
            if target >= 0
        }
        assert forward == backward

    def test_obeys_the_equation_of_convolution(self, device):
        """input = output * stride - padding + place * dilation, for each pair."""
        coords = random_sites(device)
        stride, padding = torch.tensor([2, 1, 3]), torch.tensor([1, 0, 1])
        rulebook = strided_rulebook(coords, SHAPE, (3, 2, 3), stride.tolist(), padding.tolist())
        places = torch.tensor(list(itertools.product(range(3), range(2), range(3))))
        place, output = (rulebook.inputs_of_outputs >= 0).nonzero().cpu().unbind(1)
        source = rulebook.inputs_of_outputs.cpu()[place, output].long()
        at_input = coords.cpu()[source]
        at_output = rulebook.out_coords.cpu()[output]
        assert torch.equal(at_input[:, 0], at_output[:, 0])
        assert torch.equal(
            at_input[:, 1:].long(), at_output[:, 1:].long() * stride - padding + places[place]
        )
        assert len(place) > len(coords)
