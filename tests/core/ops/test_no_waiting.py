"""What the hot path calls must never make the host wait for the GPU."""

import pytest
import torch

from kd3d_core import ops

VOXEL_SIZE = (0.5, 0.25, 1.0)
RANGE = (0.0, -2.0, -3.0, 4.0, 2.0, 1.0)
SHAPE = (4, 16, 8)

pytestmark = pytest.mark.usefixtures("no_waiting")


class TestNothingWaits:
    """Inputs are made on the device, so that making them does not wait either."""

    def test_voxelization(self):
        points = torch.rand(500, 4, device="cuda") * 4 - 2
        ops.dynamic_voxelize(points, VOXEL_SIZE, RANGE)
        ops.hard_voxelize(points, VOXEL_SIZE, RANGE, 5, 100)

    def test_submanifold_convolution(self):
        sample = torch.zeros(8, dtype=torch.int32, device="cuda")
        along = torch.arange(8, dtype=torch.int32, device="cuda")
        coords = torch.stack([sample, along // 2, along, along], dim=1)
        rulebook = ops.submanifold_rulebook(coords, SHAPE, (3, 3, 3))
        features = torch.rand(8, 4, device="cuda", requires_grad=True)
        weight = torch.rand(3, 3, 3, 4, 2, device="cuda", requires_grad=True)
        ops.sparse_conv3d(features, weight, rulebook).sum().backward()

    def test_suppression(self):
        boxes = torch.rand(100, 5, device="cuda") * 5
        valid = boxes[:, 0] > 1
        ops.nms_rotated_mask(boxes, boxes[:, 1], 0.1, valid=valid, groups=valid.long())
