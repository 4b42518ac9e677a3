"""Torch versions of the compiled ops that mmdet3d's models need, for any device.

The functions are pure and import torch only. `mmcv_ext.install()` lends them to mmcv.
"""

from kd3d_core.ops.focal import sigmoid_focal_loss
from kd3d_core.ops.rotated import (
    box_iou_axis_aligned,
    box_iou_rotated,
    nms_axis_aligned,
    nms_rotated,
    nms_rotated_mask,
)
from kd3d_core.ops.scatter import (
    ScatteredVoxels,
    VoxelGroups,
    group_points,
    reduce_points,
    scatter_points,
)
from kd3d_core.ops.sparse_conv import (
    Rulebook,
    sparse_conv3d,
    strided_rulebook,
    submanifold_rulebook,
    transposed_rulebook,
)
from kd3d_core.ops.voxelize import HardVoxels, dynamic_voxelize, hard_voxelize

__all__ = [
    "HardVoxels",
    "Rulebook",
    "ScatteredVoxels",
    "VoxelGroups",
    "box_iou_axis_aligned",
    "box_iou_rotated",
    "dynamic_voxelize",
    "group_points",
    "hard_voxelize",
    "nms_axis_aligned",
    "nms_rotated",
    "nms_rotated_mask",
    "reduce_points",
    "scatter_points",
    "sigmoid_focal_loss",
    "sparse_conv3d",
    "strided_rulebook",
    "submanifold_rulebook",
    "transposed_rulebook",
]
