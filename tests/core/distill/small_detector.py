"""A detector that is quick enough for tests."""

import copy
from functools import cache

import torch
from torch import nn

from kd3d_core.data.frame_inputs import lidar_points
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.detectors.lite import lite
from kd3d_core.detectors.mvxnet import FusionDetector
from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.models.config import ModelConfig
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.data import RunData, TrainingSet
from kd3d_core.training.distill_task import DistillTask, distill_task

SMALL = VoxelGrid((0.4, 0.4, 4.0), (0.0, -12.8, -3.0, 25.6, 12.8, 1.0))


def small_lite(seed: int = 0, grid: VoxelGrid = SMALL) -> FusionDetector:
    """`lite` on fewer cells, with random weights that give a few confident answers."""
    return copy.deepcopy(_made(seed, grid))


def student_task(
    wanted: TrainConfig,
    model: ModelConfig,
    teacher: FusionDetector,
    frames: KittiDataset,
    val: KittiDataset | None = None,
) -> DistillTask:
    """A small student that reads true points, validated on the frames it learns from by default."""
    data = RunData((TrainingSet(frames),), val or frames)
    return distill_task(
        wanted, model, data, small_lite(0), model.detector, teacher, lambda _: lidar_points
    )


@cache
def _made(seed: int, grid: VoxelGrid) -> FusionDetector:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = lite(DecodeConfig(), grid.point_cloud_range, grid.voxel_size).eval()
        # What reaches the head of an untrained network hardly varies.
        nn.init.normal_(detector.head.conv_cls.weight, std=15.0)
        nn.init.normal_(detector.head.conv_reg.weight, std=5.0)
        nn.init.normal_(detector.head.conv_dir_cls.weight, std=5.0)
        nn.init.constant_(detector.head.conv_cls.bias, -3.0)
    return detector
