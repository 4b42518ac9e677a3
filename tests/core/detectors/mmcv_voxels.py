"""mmcv's compiled functions for voxels and sparse convolution, forward only, for its references.

Each has the arguments of the compiled function, outputs included. They are written for being plain,
not quick, and share nothing with kd3d_core.ops.
"""

import itertools

import torch
from torch import Tensor


def dynamic_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    coors: Tensor,
    NDim: int = 3,  # noqa: N803
) -> None:
    cell = torch.floor((points[:, :3] - coors_range[:3]) / voxel_size)
    shape = ((coors_range[3:] - coors_range[:3]) / voxel_size).round()
    inside = ((cell >= 0) & (cell < shape)).all(1)
    coors.copy_(torch.where(inside[:, None], cell.flip(1), -1))


def hard_voxelize_forward(
    points: Tensor, voxel_size: Tensor, coors_range: Tensor, voxels: Tensor, coors: Tensor,
    num_points_per_voxel: Tensor, voxel_num: Tensor, max_points: int, max_voxels: int,
    NDim: int = 3, deterministic: bool = True,  # noqa: N803
) -> None:  # fmt: skip
    cells = coors.new_empty(len(points), 3)
    dynamic_voxelize_forward(points, voxel_size, coors_range, cells)
    rows: dict[tuple[int, ...], int] = {}
    for point, cell in zip(points, map(tuple, cells.tolist()), strict=True):
        if cell[0] < 0 or (cell not in rows and len(rows) == max_voxels):
            continue
        row = rows.setdefault(cell, len(rows))
        if num_points_per_voxel[row] < max_points:
            voxels[row, num_points_per_voxel[row]] = point
            num_points_per_voxel[row] += 1
    coors[: len(rows)] = torch.tensor(list(rows))
    voxel_num.fill_(len(rows))


def dynamic_point_to_voxel_forward(
    feats: Tensor, coors: Tensor, reduce_type: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    voxels, row, counts = coors.unique(dim=0, return_inverse=True, return_counts=True)
    index = row[:, None].expand_as(feats)
    how = {"max": "amax", "mean": "mean"}[reduce_type]
    reduced = feats.new_zeros(len(voxels), feats.shape[1])
    return reduced.scatter_reduce(0, index, feats, how, include_self=False), voxels, row, counts


def get_indice_pairs_3d_forward(
    indices, batch_size, out_shape, shape, kernel, stride, padding, dilation, out_padding, subm,
    transpose,
):  # fmt: skip
    """Outputs, then for each place in the kernel the rows of inputs and of their outputs."""
    if subm:
        stride, padding = (1, 1, 1), [size // 2 for size in kernel]
    reached = []
    for place in itertools.product(*map(range, kernel)):
        site = indices[:, 1:].long() + torch.tensor(padding) - torch.tensor(place)
        output = site.div(torch.tensor(stride), rounding_mode="floor")
        hits = (output * torch.tensor(stride) == site).all(1)
        hits &= ((output >= 0) & (output < torch.tensor(out_shape))).all(1)
        reached.append((hits, torch.cat([indices[:, :1].long(), output], 1)))
    found = [target[hits] for hits, target in reached]
    outputs = indices.long() if subm else torch.cat(found).unique(dim=0)
    row_of = {site: row for row, site in enumerate(map(tuple, outputs.tolist()))}
    pairs = torch.full((len(reached), 2, len(indices)), -1)
    counts = torch.zeros(len(reached), dtype=torch.int64)
    for place, (hits, target) in enumerate(reached):
        sources = hits.nonzero()[:, 0].tolist()
        sites = map(tuple, target[hits].tolist())
        rows = [(a, row_of[b]) for a, b in zip(sources, sites, strict=True) if b in row_of]
        counts[place] = len(rows)
        pairs[place, :, : len(rows)] = torch.tensor(rows, dtype=torch.int64).view(-1, 2).t()
    return outputs.int(), pairs, counts


def indice_conv_forward(features, filters, pairs, counts, num_outputs, inverse, subm) -> Tensor:
    out = features.new_zeros(num_outputs, filters.shape[-1])
    for weight, (sources, targets), count in zip(filters.flatten(0, 2), pairs, counts, strict=True):
        out.index_add_(0, targets[:count], features[sources[:count]] @ weight)
    return out


OPS = (
    dynamic_voxelize_forward,
    hard_voxelize_forward,
    dynamic_point_to_voxel_forward,
    get_indice_pairs_3d_forward,
    indice_conv_forward,
)
