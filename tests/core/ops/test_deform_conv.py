"""Modulated deformable convolution against a plain reference in float64, and mmcv's use of it."""

import itertools

import numpy as np
import pytest
import torch

import kd3d_core.detectors.upstream  # noqa: F401  (lends mmcv its ops)
from kd3d_core.ops import modulated_deform_conv2d


def pixel(image: np.ndarray, y: float, x: float) -> float:
    """Interpolated between the four pixels around; those beyond the border are 0."""
    low_y, low_x = int(np.floor(y)), int(np.floor(x))
    value = 0.0
    for row, column in itertools.product((low_y, low_y + 1), (low_x, low_x + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            value += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def reference(images, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups):
    """The definition, number by number."""
    _, channels, _, _ = images.shape
    kh, kw = weight.shape[2:]
    out = np.zeros((len(images), len(weight), *offset.shape[2:]))
    for b, d, i, j in np.ndindex(out.shape):
        group = d // (len(weight) // groups)
        for c, u, v in np.ndindex(weight.shape[1:]):
            channel = group * weight.shape[1] + c
            tap = channel // (channels // deform_groups) * kh * kw + u * kw + v
            y = i * stride[0] - padding[0] + u * dilation[0] + offset[b, 2 * tap, i, j]
            x = j * stride[1] - padding[1] + v * dilation[1] + offset[b, 2 * tap + 1, i, j]
            out[b, d, i, j] += (
                weight[d, c, u, v] * mask[b, tap, i, j] * pixel(images[b, channel], y, x)
            )
        out[b, d, i, j] += bias[d]
    return out


def case(groups=1, deform_groups=1, kernel=(3, 3), size=(5, 6), out=(5, 6), channels=4):
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    taps = kernel[0] * kernel[1] * deform_groups
    return (
        draw(2, channels, *size),
        2 * draw(2, 2 * taps, *out),  # far enough to leave the image
        draw(2, taps, *out).sigmoid(),
        draw(4, channels // groups, *kernel),
        draw(4),
    )


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ({}, {"padding": (1, 1)}),
        ({"out": (3, 2)}, {"padding": (1, 1), "stride": (2, 3)}),
        ({"out": (3, 4), "deform_groups": 2}, {"padding": (1, 2), "dilation": (2, 3)}),
        ({"out": (4, 4), "groups": 2, "deform_groups": 2, "kernel": (2, 3)}, {}),
    ],
)
def test_it_is_its_definition(shape, settings):
    tensors = case(**shape)
    groups, deform = shape.get("groups", 1), shape.get("deform_groups", 1)
    steps = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)} | settings
    expected = reference(*(t.numpy() for t in tensors), *steps.values(), groups, deform)
    found = modulated_deform_conv2d(*tensors, **steps, groups=groups, deform_groups=deform)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_gradients():
    tensors = [
        t[:1].requires_grad_() for t in case(channels=1, size=(3, 3), out=(2, 2), kernel=(2, 2))
    ]
    assert torch.autograd.gradcheck(modulated_deform_conv2d, tensors)


def test_without_offsets_it_is_a_convolution():
    images, offset, mask, weight, bias = case()
    found = modulated_deform_conv2d(
        images, torch.zeros_like(offset), torch.ones_like(mask), weight, bias, padding=(1, 1)
    )
    torch.testing.assert_close(found, torch.nn.functional.conv2d(images, weight, bias, padding=1))


def test_places_are_exact_in_half_precision():
    """A pixel of column 700 is read, and not that of 704."""
    images = torch.zeros(1, 1, 1, 900, dtype=torch.bfloat16)
    images[..., 700] = 1
    like = torch.zeros_like(images)
    offset = torch.cat([like, like], 1)
    found = modulated_deform_conv2d(images, offset, like + 1, torch.ones(1, 1, 1, 1).bfloat16())
    assert found.flatten().nonzero().tolist() == [[700]]


def test_mmcv_calls_it():
    from mmcv.ops import ModulatedDeformConv2dPack

    layer = ModulatedDeformConv2dPack(4, 4, 3, stride=2, padding=1, deform_groups=2).double().eval()
    torch.nn.init.normal_(layer.conv_offset.weight)
    images, *_ = case()
    with torch.no_grad():
        first, second, mask = layer.conv_offset(images).chunk(3, 1)
        offset = torch.cat([first, second], 1)
        settings = ((2, 2), (1, 1), (1, 1), 1, 2)
        arguments = (images, offset, mask.sigmoid(), layer.weight, layer.bias)
        expected = reference(*(t.numpy() for t in arguments), *settings)
        np.testing.assert_allclose(layer(images).numpy(), expected, atol=1e-12)
