"""Our torch ops under the names of mmcv's compiled extension, so that mmcv-lite can run mmdet3d.

mmcv's Python wrappers ask a module `mmcv._ext` for their compiled functions, and mmcv-lite has
none. `install()` puts a module there. Each function below is one compiled function: it takes the
wrapper's arguments, in place outputs included, and calls the op. Any other name gives a function
that raises when it is called, so that importing mmcv.ops works.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from kd3d_core.errors import Kd3dError
from kd3d_core.ops import focal, rotated, scatter, sparse_conv, voxelize

logger = logging.getLogger(__name__)

_NAME = "mmcv._ext"
# By pip without what they declare to need: it pulls packages that nothing here uses.
_PACKAGES = {
    "mmengine": "mmengine==0.10.7",
    "mmcv": "mmcv-lite==2.1.0",
    "mmdet": "mmdet==3.3.0",
    "mmdet3d": "mmdet3d==1.4.0",
}


def install() -> bool:
    """Give mmcv.ops our ops where mmcv has no compiled extension. Call before mmdet3d is imported.

    Calling it again changes nothing. A compiled mmcv is left alone.

    Returns:
        True if mmcv now uses our ops, False if it has its own.

    Raises:
        Kd3dError: mmcv or another package that detectors need is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise Kd3dError(
            f"{', '.join(missing)} not found: pip install --no-deps " + " ".join(_PACKAGES.values())
        )
    mmcv = importlib.import_module("mmcv")
    try:
        return isinstance(importlib.import_module(_NAME), _TorchOps)
    except ModuleNotFoundError:
        pass
    except ImportError as error:
        logger.warning("mmcv's compiled ops do not load (%s): using kd3d_core.ops", error)
    module = _TorchOps(_NAME, __doc__)
    module.__spec__ = ModuleSpec(_NAME, loader=None)
    for op in _OPS:
        setattr(module, op.__name__, op)
    sys.modules[_NAME] = module
    mmcv._ext = module  # type: ignore[attr-defined]
    return True


class _TorchOps(ModuleType):
    """A module that has every function; the ones we lack raise when they are called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing_op(*_: Any, **__: Any) -> NoReturn:
            raise Kd3dError(
                f"mmcv op '{name}' has no torch version in kd3d_core.ops: "
                "use a model that does not need it, or install a compiled mmcv"
            )

        missing_op.__name__ = name
        return missing_op


def get_compiler_version() -> str:
    return "none (kd3d_core.ops)"


def get_compiling_cuda_version() -> str:
    return "none (kd3d_core.ops)"


def dynamic_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    coors: Tensor,
    NDim: int = 3,  # noqa: N803  (mmcv's keyword)
) -> None:
    _require(NDim == 3, "dynamic_voxelize_forward", f"{NDim} dimensions, only 3 are supported")
    coors.copy_(voxelize.dynamic_voxelize(points, voxel_size, coors_range))


def hard_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    voxels: Tensor,
    coors: Tensor,
    num_points_per_voxel: Tensor,
    voxel_num: Tensor,
    max_points: int,
    max_voxels: int,
    NDim: int = 3,  # noqa: N803
    deterministic: bool = True,  # ours always is
) -> None:
    _require(NDim == 3, "hard_voxelize_forward", f"{NDim} dimensions, only 3 are supported")
    result = voxelize.hard_voxelize(points, voxel_size, coors_range, max_points, max_voxels)
    voxels.copy_(result.features)
    coors.copy_(result.coords)
    num_points_per_voxel.copy_(result.num_points)
    voxel_num.copy_(result.num_voxels)


def dynamic_point_to_voxel_forward(
    feats: Tensor, coors: Tensor, reduce_type: scatter.Reduce
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, coords, point_to_voxel, counts = scatter.scatter_points(feats, coors, reduce_type)
    return features, coords, point_to_voxel.int(), counts.int()


def dynamic_point_to_voxel_backward(
    grad_feats: Tensor,
    grad_reduced_feats: Tensor,
    feats: Tensor,
    reduced_feats: Tensor,
    coors_idx: Tensor,
    reduce_count: Tensor,
    reduce_type: scatter.Reduce,
) -> None:
    # The voxels' coordinates are not passed, and the gradient does not need them.
    groups = scatter.VoxelGroups(coors_idx[:0], coors_idx.long(), reduce_count)
    with torch.enable_grad():
        points = feats.detach().requires_grad_()
        voxels = scatter.reduce_points(points, groups, reduce_type)
        (gradient,) = torch.autograd.grad(voxels, points, grad_reduced_feats)
    grad_feats.copy_(gradient)


def box_iou_rotated(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int = 0, aligned: bool = False
) -> None:
    mode = "iof" if mode_flag else "iou"
    ious.copy_(rotated.box_iou_rotated(boxes1, boxes2, mode, aligned).flatten())  # type: ignore[arg-type]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    return rotated.nms_axis_aligned(boxes, scores, iou_threshold, offset)


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: int,
) -> Tensor:
    groups = labels if multi_label else None
    return rotated.nms_rotated(dets[:, :5], scores, iou_threshold, groups)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    output.copy_(_weighted_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = _weighted_focal_loss(logits, target, weight, gamma, alpha).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
    grad_input.copy_(gradient)


def get_indice_pairs_3d_forward(
    indices: Tensor,
    batch_size: int,
    out_spatial_shape: Sequence[int],
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    out_padding: Sequence[int],
    subm: int,
    transpose: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """A rulebook in the place of mmcv's index pairs.

    Returns:
        out_coords (N_out, 4) int32; tables (K, 2, max(N_in, N_out)) int32, at [:, 0] the inputs of
        the outputs and at [:, 1] the outputs of the inputs, -1 where there is none; and the number
        of pairs for each place in the kernel, (K,) int32, on the device.
    """
    if subm:
        rulebook = sparse_conv.submanifold_rulebook(indices, spatial_shape, kernel_size, dilation)
    elif transpose:
        rulebook = sparse_conv.transposed_rulebook(
            indices, spatial_shape, kernel_size, stride, padding, dilation, out_padding
        )
    else:
        rulebook = sparse_conv.strided_rulebook(
            indices, spatial_shape, kernel_size, stride, padding, dilation
        )
    halves = (rulebook.inputs_of_outputs, rulebook.outputs_of_inputs)
    width = max(half.shape[1] for half in halves)
    tables = halves[0].new_full((halves[0].shape[0], 2, width), -1)
    for table, half in zip(tables.unbind(1), halves, strict=True):
        table[:, : half.shape[1]] = half
    return rulebook.out_coords, tables, (halves[1] >= 0).sum(dim=1).int()


def indice_conv_forward(
    features: Tensor,
    filters: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    num_activate_out: int,
    inverse: int,
    subm: int,
) -> Tensor:
    sources = indice_pairs[:, 1 if inverse else 0, :num_activate_out]
    return sparse_conv.conv_features(features, filters, sources)


def indice_conv_backward(
    features: Tensor,
    filters: Tensor,
    out_bp: Tensor,
    indice_pairs: Tensor,
    indice_pair_num: Tensor,
    inverse: int,
    subm: int,
) -> tuple[Tensor, Tensor]:
    sources, targets = indice_pairs.flip(1).unbind(1) if inverse else indice_pairs.unbind(1)
    grad_features = sparse_conv.conv_features(
        out_bp, filters.transpose(-1, -2), targets[:, : features.shape[0]]
    )
    grad_filters = sparse_conv.conv_weight_gradient(features, out_bp, sources[:, : out_bp.shape[0]])
    return grad_features, grad_filters.view(filters.shape)


_OPS: tuple[Callable[..., Any], ...] = (
    get_compiler_version,
    get_compiling_cuda_version,
    dynamic_voxelize_forward,
    hard_voxelize_forward,
    dynamic_point_to_voxel_forward,
    dynamic_point_to_voxel_backward,
    box_iou_rotated,
    nms,
    nms_rotated,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    get_indice_pairs_3d_forward,
    indice_conv_forward,
    indice_conv_backward,
)


def _weighted_focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
) -> Tensor:
    loss = focal.sigmoid_focal_loss(logits, target, gamma, alpha)
    return loss * weight[target][:, None] if weight.numel() else loss


def _require(condition: bool, op: str, problem: str) -> None:
    if not condition:
        raise Kd3dError(f"mmcv op '{op}': {problem}")
