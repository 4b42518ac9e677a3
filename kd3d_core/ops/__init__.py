"""Voxels, sparse and deformable convolution, overlap of boxes, focal loss in torch, for any device.

The functions are pure and import torch only; upstream's are compiled, without builds for current
PyTorch. `mmcv_ext.install()` lends mmcv those that mmdet3d's losses and heads call.
"""

from kd3d_core.ops.deform_conv import modulated_deform_conv2d
from kd3d_core.ops.focal import sigmoid_focal_loss
from kd3d_core.ops.rotated import (
    box_iou_axis_aligned,
    box_iou_rotated,
    nms_axis_aligned,
    nms_rotated,
    nms_rotated_mask,
)
from kd3d_core.ops.sparse_conv import (
    Rulebook,
    sparse_conv3d,
    strided_rulebook,
    submanifold_rulebook,
)
from kd3d_core.ops.voxelize import HardVoxels, dynamic_voxelize, hard_voxelize

__all__ = [
    "HardVoxels",
    "Rulebook",
    "box_iou_axis_aligned",
    "box_iou_rotated",
    "dynamic_voxelize",
    "hard_voxelize",
    "modulated_deform_conv2d",
    "nms_axis_aligned",
    "nms_rotated",
    "nms_rotated_mask",
    "sigmoid_focal_loss",
    "sparse_conv3d",
    "strided_rulebook",
    "submanifold_rulebook",
]
