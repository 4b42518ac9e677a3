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
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from kd3d_core.errors import Kd3dError
from kd3d_core.ops import deform_conv, focal, rotated, voxelize

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


def dynamic_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    coors: Tensor,
    NDim: int = 3,  # noqa: N803
) -> None:
    coors.copy_(voxelize.dynamic_voxelize(points, voxel_size.tolist(), coors_range.tolist()))


def dynamic_point_to_voxel_forward(
    feats: Tensor, coors: Tensor, reduce_type: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    voxels, row, counts = coors.unique(dim=0, return_inverse=True, return_counts=True)
    index = row[:, None].expand_as(feats)
    how = {"max": "amax", "mean": "mean"}[reduce_type]
    reduced = feats.new_zeros(len(voxels), feats.shape[1])
    return reduced.scatter_reduce(0, index, feats, how, include_self=False), voxels, row, counts


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
    **_: int,
) -> None:
    answer = deform_conv.modulated_deform_conv2d(
        input, offset, mask, weight, bias if with_bias else None,
        stride=(stride_h, stride_w), padding=(pad_h, pad_w), dilation=(dilation_h, dilation_w),
        groups=group, deform_groups=deformable_group,
    )  # fmt: skip
    output.copy_(answer)


_OPS: tuple[Callable[..., Any], ...] = (
    get_compiler_version,
    get_compiling_cuda_version,
    box_iou_rotated,
    nms,
    nms_rotated,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    dynamic_voxelize_forward,
    dynamic_point_to_voxel_forward,
    modulated_deform_conv_forward,
)


def _weighted_focal_loss(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float
) -> Tensor:
    loss = focal.sigmoid_focal_loss(logits, target, gamma, alpha)
    return loss * weight[target][:, None] if weight.numel() else loss
