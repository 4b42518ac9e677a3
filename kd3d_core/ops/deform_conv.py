"""Modulated deformable convolution (Zhu et al., 2019, "Deformable ConvNets v2")."""

import torch
from torch import Tensor
from torch.nn import functional


def modulated_deform_conv2d(
    images: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """A convolution whose taps read beside their places, each with a weight of its own.

    `y(p) = sum_k w_k * m_k(p) * x(p + p_k + dp_k(p))`; between pixels x is interpolated, and beyond
    the border it is 0. One tap after another: their samples would need K times the memory.

    >>> images = torch.arange(9.0).view(1, 1, 3, 3)
    >>> right = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 3, 3)  # half a pixel
    >>> ones = torch.ones(1, 1, 3, 3)
    >>> modulated_deform_conv2d(images, right, ones, torch.ones(1, 1, 1, 1))[0, 0, 0]
    tensor([0.5000, 1.5000, 1.0000])

    Args:
        images: `(B, C, H, W)`.
        offset: `(B, deform_groups * K * 2, h, w)` in pixels, for each of the K taps y before x.
        mask: `(B, deform_groups * K, h, w)`, the taps' own weights.
        weight: `(D, C / groups, kh, kw)`, K = kh * kw taps.
        bias: `(D,)`.
        stride, padding, dilation: of rows and of columns, as in `torch.nn.functional.conv2d`.
        groups: as in `conv2d`.
        deform_groups: consecutive channels of the images that share their offsets.

    Returns:
        `(B, D, h, w)` in the dtype of the images.
    """
    batch, _, height, width = images.shape
    rows, columns = offset.shape[-2:]
    taps = weight.flatten(2)
    # Places in single precision at least: bf16 has steps of 4 pixels at 1000.
    exact = torch.promote_types(offset.dtype, torch.float32)
    shift = offset.to(exact).view(batch * deform_groups, taps.shape[-1], 2, rows, columns)
    share = mask.to(exact).view(batch * deform_groups, taps.shape[-1], 1, rows, columns)
    source = images.to(exact).reshape(batch * deform_groups, -1, height, width)
    y = torch.arange(rows, device=images.device)[:, None] * stride[0] - padding[0]
    x = torch.arange(columns, device=images.device) * stride[1] - padding[1]
    answer = None
    for tap in range(taps.shape[-1]):
        down, across = divmod(tap, weight.shape[-1])
        at_y = y + down * dilation[0] + shift[:, tap, 0]
        at_x = x + across * dilation[1] + shift[:, tap, 1]
        places = torch.stack([(2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1], -1)
        seen = functional.grid_sample(source, places, align_corners=False) * share[:, tap]
        seen = seen.view(batch, -1, rows, columns).to(images.dtype)
        part = functional.conv2d(seen, taps[..., tap, None, None], groups=groups)
        answer = part if answer is None else answer + part
    assert answer is not None
    return answer if bias is None else answer + bias[:, None, None]
