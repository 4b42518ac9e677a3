"""3D sparse convolution: submanifold and strided, forward and backward.

A convolution is two steps. A `Rulebook` says which input feeds which output through which place in
the kernel; it depends on coordinates only, so layers that share coordinates share it. The features
are then gathered through it, multiplied by the kernel and added up.

The rulebook is a table both ways round, inputs of outputs and outputs of inputs. Forward and
backward are then the same gather, each output row is written by one sum, and no atomic addition
makes the result vary from run to run.

Kernels have mmcv's layout, (*kernel_size, C_in, C_out), so that mmdet3d's checkpoints load.
Source: Graham et al., "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks",
2018; Yan et al., "SECOND", 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kd3d_core.errors import Kd3dError

_NO_KEY = torch.iinfo(torch.int64).max
# Elements gathered at once on a GPU: 256 MB in float32.
_GATHER_LIMIT = 1 << 26


@dataclass(frozen=True)
class Rulebook:
    """Which input feeds which output, for each of the K places in a kernel.

    Attributes:
        out_coords: (N_out, 1 + D) int32: sample in the batch, then z, y, x.
        out_shape: spatial shape of the output grid (z, y, x).
        inputs_of_outputs: (K, N_out) int32, row of the input, -1 where there is none.
        outputs_of_inputs: (K, N_in) int32, row of the output, -1 where there is none.
    """

    out_coords: Tensor
    out_shape: tuple[int, ...]
    inputs_of_outputs: Tensor
    outputs_of_inputs: Tensor


def submanifold_rulebook(
    coords: Tensor,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> Rulebook:
    """Rulebook of a submanifold convolution: the outputs are where the inputs are.

    The kernel is centred on the output (for a dilation of 1, as in mmcv). No device-to-host copy.

    Args:
        coords: (N, 1 + D) integer: sample, z, y, x; distinct and inside the grid.
        spatial_shape: extents of the grid along z, y, x.
        kernel_size: odd extents of the kernel along z, y, x.
        dilation: distance between the kernel's places along z, y, x; 1 if not given.

    >>> sites = torch.tensor([[0, 0, 0, 3], [0, 0, 0, 4]])
    >>> submanifold_rulebook(sites, (1, 1, 8), (1, 1, 3)).inputs_of_outputs
    tensor([[-1,  0],
            [ 0,  1],
            [ 1, -1]], dtype=torch.int32)
    """
    if any(size % 2 == 0 for size in kernel_size):
        raise Kd3dError(
            f"submanifold convolution with kernel {tuple(kernel_size)}: every extent must be odd"
        )
    num_sites = coords.shape[0]
    site_key, order = _linear_key(coords, spatial_shape).sort()
    places = [
        column + (torch.arange(k, device=coords.device)[:, None] - k // 2) * d
        for column, k, d in zip(
            coords[order, 1:].long().unbind(1),
            kernel_size,
            _steps(dilation, kernel_size),
            strict=True,
        )
    ]
    # Each row of keys is the sites' own plus a constant, hence sorted: the search walks through
    # memory once.
    key, inside = _keys_of(coords[order, 0], places, spatial_shape)
    table = torch.full_like(key, -1, dtype=torch.int32)
    if num_sites > 0:
        found = torch.searchsorted(site_key, key).clamp(max=num_sites - 1)
        is_site = (site_key[found] == key) & inside
        table[:, order] = torch.where(is_site, order[found], -1).to(torch.int32)
    # The kernel is symmetric: a is b's neighbour at one place, b is a's at the opposite one.
    return Rulebook(coords, tuple(spatial_shape), table, table.flip(0))


def strided_rulebook(
    coords: Tensor,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> Rulebook:
    """Rulebook of an ordinary convolution: outputs wherever the kernel meets an input.

    Input `i` feeds output `o` through place `k` when `i = o * stride - padding + k * dilation`.
    Outputs are sorted by sample, z, y, x. One device-to-host copy: their number.

    Args:
        coords: (N, 1 + D) integer: sample, z, y, x; distinct and inside the grid.
        spatial_shape: extents of the input grid along z, y, x.
        kernel_size, stride, padding, dilation: along z, y, x, as in `torch.nn.Conv3d`.

    >>> sites = torch.tensor([[0, 0, 0, 3], [0, 0, 0, 4]])
    >>> strided_rulebook(sites, (1, 1, 8), (1, 1, 3), (1, 1, 2), (0, 0, 1)).out_coords
    tensor([[0, 0, 0, 1],
            [0, 0, 0, 2]], dtype=torch.int32)
    """
    dilation = _steps(dilation, kernel_size)
    settings = list(zip(spatial_shape, kernel_size, stride, padding, dilation, strict=True))
    out_shape = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in settings)
    places = []
    for column, (_, k, s, p, d) in zip(coords[:, 1:].long().unbind(1), settings, strict=True):
        position = column + p - torch.arange(k, device=coords.device)[:, None] * d
        place = torch.div(position, s, rounding_mode="floor")
        # Between two outputs there is none: say so with a place outside of the grid.
        places.append(torch.where(place * s == position, place, -1))
    return _rulebook_to(coords, places, out_shape)


def sparse_conv3d(features: Tensor, weight: Tensor, rulebook: Rulebook) -> Tensor:
    """Convolve features through a rulebook; differentiable in `features` and `weight`.

    `out[o] = sum over k of features[inputs_of_outputs[k, o]] @ weight[k]`

    No device-to-host copy on a GPU.

    Args:
        features: (N_in, C_in) floating.
        weight: (*kernel_size, C_in, C_out), same dtype.
        rulebook: built for these N_in inputs and this kernel size.

    Returns:
        (N_out, C_out); row i belongs to `rulebook.out_coords[i]`.

    >>> sites = torch.tensor([[0, 0, 0, 3], [0, 0, 0, 4]])
    >>> rulebook = submanifold_rulebook(sites, (1, 1, 8), (1, 1, 3))
    >>> sparse_conv3d(torch.tensor([[1.0], [10.0]]), torch.ones(1, 1, 3, 1, 1), rulebook)
    tensor([[11.],
            [11.]])
    """
    return _SparseConv.apply(
        features, weight, rulebook.inputs_of_outputs, rulebook.outputs_of_inputs
    )


def conv_features(features: Tensor, weight: Tensor, sources: Tensor) -> Tensor:
    """Sum over k of `features[sources[k]] @ weight[k]`, skipping sources of -1.

    Args:
        features: (N, C_in).
        weight: (*kernel_size, C_in, C_out) with K places in all.
        sources: (K, M) int32 rows of `features`, or -1.

    Returns:
        (M, C_out).
    """
    # Under autocast features come in half precision and weights don't.
    kernel = weight.flatten(0, -3).to(features.dtype)
    if features.device.type != "cpu":
        return gathered_conv(features, kernel, sources)
    out = features.new_zeros((sources.shape[1], kernel.shape[2]))
    for source, matrix in zip(sources, kernel, strict=True):
        target = (source >= 0).nonzero().squeeze(1)
        out.index_add_(0, target, (features[source[target]] @ matrix).to(out.dtype))
    return out


def conv_weight_gradient(features: Tensor, grad_out: Tensor, sources: Tensor) -> Tensor:
    """Gradient of `conv_features` with respect to its weight, (K, C_in, C_out).

    Args:
        features: (N, C_in).
        grad_out: (M, C_out).
        sources: (K, M) int32 rows of `features`, or -1.
    """
    grad_out = grad_out.to(features.dtype)
    if features.device.type != "cpu":
        return gathered_weight_gradient(features, grad_out, sources)
    grad = features.new_empty((sources.shape[0], features.shape[1], grad_out.shape[1]))
    for source, matrix in zip(sources, grad, strict=True):
        target = (source >= 0).nonzero().squeeze(1)
        torch.mm(features[source[target]].t(), grad_out[target], out=matrix)
    return grad


def gathered_conv(features: Tensor, kernel: Tensor, sources: Tensor) -> Tensor:
    """`conv_features` as one gather and one product, with zeros for what is missing.

    On a GPU launches cost more than arithmetic, and picking out what is there would copy its size
    to the host. `kernel` is (K, C_in, C_out).
    """
    out = features.new_empty((sources.shape[1], kernel.shape[2]))
    matrix = kernel.flatten(0, 1)
    for rows in _chunks(sources.shape[1], len(matrix)):
        torch.mm(_gather(features, sources[:, rows]), matrix, out=out[rows])
    return out


def gathered_weight_gradient(features: Tensor, grad_out: Tensor, sources: Tensor) -> Tensor:
    """`conv_weight_gradient` as one gather and one product."""
    grad = features.new_zeros((len(sources), features.shape[1], grad_out.shape[1]))
    matrix = grad.flatten(0, 1)
    for rows in _chunks(sources.shape[1], len(matrix)):
        matrix.addmm_(_gather(features, sources[:, rows]).t(), grad_out[rows])
    return grad


class _SparseConv(Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, sources: Tensor, targets: Tensor
    ) -> Tensor:
        ctx.save_for_backward(features, weight, sources, targets)
        return conv_features(features, weight, sources)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight, sources, targets = ctx.saved_tensors
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_features = conv_features(grad_out, weight.transpose(-1, -2), targets)
        if ctx.needs_input_grad[1]:
            grad_weight = conv_weight_gradient(features, grad_out, sources).view(weight.shape)
        return grad_features, grad_weight, None, None


def _rulebook_to(coords: Tensor, places: list[Tensor], out_shape: tuple[int, ...]) -> Rulebook:
    """Rulebook from the place along each axis, (k, N), that inputs reach through the kernel."""
    key, inside = _keys_of(coords[:, 0], places, out_shape)
    num_places, num_inputs = key.shape
    # With one "no output" always present, it is always the last, and cutting it off needs no look
    # at the data.
    key = torch.where(inside, key, _NO_KEY).flatten()
    key = torch.cat([key, key.new_full((1,), _NO_KEY)])
    out_key, inverse = torch.unique(key, return_inverse=True)
    num_outputs = out_key.shape[0] - 1
    target = inverse[:-1].view(num_places, num_inputs)

    row = torch.arange(num_inputs, dtype=torch.int32, device=coords.device)
    sources = row.new_full((num_places, num_outputs + 1), -1)
    sources.scatter_(1, target, row.expand(num_places, -1))
    return Rulebook(
        _coords_of(out_key[:-1], out_shape),
        out_shape,
        sources[:, :-1],
        torch.where(target == num_outputs, -1, target).to(torch.int32),
    )


def _steps(dilation: Sequence[int] | None, kernel_size: Sequence[int]) -> Sequence[int]:
    return [1] * len(kernel_size) if dilation is None else dilation


def _linear_key(coords: Tensor, shape: Sequence[int]) -> Tensor:
    """Row-major index of each site in its batch of grids, (N, 1 + D) -> (N,) int64."""
    key = coords[:, 0].long()
    for column, extent in zip(coords[:, 1:].unbind(1), shape, strict=True):
        key = key * extent + column
    return key


def _keys_of(sample: Tensor, places: list[Tensor], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """`_linear_key` of every combination of places along the axes.

    A kernel's places are a product of its axes, so only the last step here is K times N large.

    Args:
        sample: (N,) integer.
        places: for each axis a (k, N) int64, k the extent of the kernel along it.
        shape: spatial shape of the grid.

    Returns:
        (K, N) int64 keys, and (K, N) bool, false where the place is outside of the grid.
    """
    key = sample.long()
    inside = torch.ones_like(key, dtype=torch.bool)
    for place, extent in zip(places, shape, strict=True):
        key = key[..., None, :] * extent + place
        inside = inside[..., None, :] & (place >= 0) & (place < extent)
    return key.flatten(0, -2), inside.flatten(0, -2)


def _coords_of(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Inverse of `_linear_key`: (N,) -> (N, 1 + D) int32."""
    columns = []
    for extent in reversed(shape):
        columns.append(key % extent)
        key = torch.div(key, extent, rounding_mode="floor")
    return torch.stack([key, *reversed(columns)], dim=1).to(torch.int32)


def _gather(features: Tensor, sources: Tensor) -> Tensor:
    """Rows `sources` (K, M) of `features`, zero for -1, side by side: (M, K * C)."""
    padded = torch.cat([features, features.new_zeros((1, features.shape[1]))])
    rows = torch.where(sources < 0, features.shape[0], sources).t()
    return padded[rows].flatten(1)


def _chunks(num_rows: int, row_length: int) -> list[slice]:
    size = max(1, _GATHER_LIMIT // row_length)
    return [slice(start, start + size) for start in range(0, num_rows, size)]
