"""Depth maps: filled between LiDAR's returns, unprojected, and of boxes."""

import numpy as np
import pytest
import torch

from kd3d_core.geometry.boxes import points_in_boxes
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.depth_maps import box_depth, densified, unprojected
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera


def camera() -> PinholeCamera:
    projection = np.array([[370.0, 0, 100, 12], [0, 370, 40, 0.3], [0, 0, 1, 0.003]])
    return PinholeCamera(projection, 200, 80, virtual_lidar_from_camera(1.65))


def test_nothing_is_filled_where_nothing_is_known():
    assert not densified(np.zeros((3, 4), np.float32), 4).any()


def test_filled_within_a_radius_and_not_beyond():
    depth = np.zeros((7, 7), np.float32)
    depth[3, 3] = 8
    filled = densified(depth, within_px=2)
    rows, columns = np.indices((7, 7))
    assert ((filled == 8) == (np.hypot(rows - 3, columns - 3) <= 2)).all()
    assert filled.dtype == np.float32


def test_points_are_those_of_the_camera():
    own = camera()
    uv = torch.tensor([[0.0, 0], [199, 79], [100, 40], [17, 63]])
    depth = torch.tensor([5.0, 70, 30, 12])
    found = unprojected(uv, depth, torch.from_numpy(own.image_from_lidar).float())
    assert torch.allclose(found, own.unproject(uv.double(), depth.double()).float(), atol=2e-4)


def test_the_nearest_surface_of_a_turned_box_is_found():
    """Just before the depth a point is outside of the box, and just behind it inside."""
    own = torch.from_numpy(camera().image_from_lidar).float()
    box = torch.tensor([[15.0, 1.0, -1.7, 3.9, 1.6, 1.5, 0.6]])
    depth, _ = box_depth(box, own, (80, 200))
    row, column = depth.nonzero(as_tuple=True)
    assert len(row) > 500
    uv, entered = torch.stack([column, row], 1).float(), depth[row, column]
    before, behind = (
        points_in_boxes(unprojected(uv, entered + step, own), box)[:, 0] for step in (-0.02, 0.02)
    )
    assert not before.any()
    assert behind.float().mean() > 0.97  # of a ray that only touches an edge, neither is inside


def test_of_two_boxes_the_nearer_hides_the_other():
    own = torch.from_numpy(camera().image_from_lidar).float()
    boxes = torch.tensor([[30.0, 0, -1.7, 4, 2, 1.5, 0], [12.0, 0, -1.7, 4, 2, 1.5, 0]])
    both, which = box_depth(boxes, own, (80, 200))
    far, _ = box_depth(boxes[:1], own, (80, 200))
    near, _ = box_depth(boxes[1:], own, (80, 200))
    assert torch.equal(both > 0, (far > 0) | (near > 0))
    hidden = (far > 0) & (near > 0)
    assert hidden.any()
    assert torch.equal(both[hidden], near[hidden])
    assert (which[near > 0] == 1).all()


@pytest.mark.parametrize("boxes", [torch.zeros(0, 7), torch.tensor([[-20.0, 0, 0, 4, 2, 2, 0]])])
def test_no_box_ahead_makes_no_depth(boxes):
    depth, _ = box_depth(boxes, torch.from_numpy(camera().image_from_lidar).float(), (8, 20))
    assert not depth.any()
