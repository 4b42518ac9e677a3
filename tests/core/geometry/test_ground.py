"""The ground under a camera is found among other things, and not where there is none."""

import numpy as np
import pytest

from kd3d_core.geometry.ground import fit_ground, up_in_camera
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT, level_lidar_from_camera


def seen_from(pose: np.ndarray, others: int, noise_m: float = 0.03) -> np.ndarray:
    """Road and as much else as `others` points, in the frame of a camera with that pose."""
    rng = np.random.default_rng(3)
    road = np.stack([rng.uniform(2, 40, 4000), rng.uniform(-8, 8, 4000)], 1)
    road = np.column_stack([road, np.full(4000, -KITTI_LIDAR_HEIGHT)])
    else_ = np.stack([rng.uniform(2, 40, others), rng.uniform(-8, 8, others)], 1)
    else_ = np.column_stack([else_, rng.uniform(-1.6, 1.5, others)])
    points = np.concatenate([road, else_]) + rng.normal(0, noise_m, (4000 + others, 3))
    camera_from_lidar = np.linalg.inv(pose)
    return points @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3]


@pytest.mark.parametrize(
    ("height", "pitch", "roll"), [(1.65, 0, 0), (0.8, 8, 0), (2.4, -5, 4), (1.2, 3, -9)]
)
@pytest.mark.parametrize("others", [0, 3000])
def test_height_and_tilt_are_found(height: float, pitch: float, roll: float, others: int) -> None:
    pose = level_lidar_from_camera(up_in_camera(pitch, roll), height)
    assert np.degrees(np.arcsin(-pose[2, 2])) == pytest.approx(pitch)  # the optical axis
    assert (pose[2, 0] < 0) == (roll > 0)  # the right side is down
    ground = fit_ground(seen_from(pose, others))
    assert ground is not None
    assert ground.height_m == pytest.approx(height, abs=0.03)
    assert ground.pitch_deg == pytest.approx(pitch, abs=0.3)
    assert ground.roll_deg == pytest.approx(roll, abs=0.5)
    assert (ground.share > 0.99) == (not others)


def test_equal_points_give_equal_answers() -> None:
    points = seen_from(level_lidar_from_camera(up_in_camera(2, 1), 1.4), 2000)
    assert fit_ground(points) == fit_ground(points)


def test_where_there_is_no_ground_none_is_found() -> None:
    rng = np.random.default_rng(0)
    cloud = np.column_stack([rng.uniform(-8, 8, 4000), rng.uniform(0, 9, 4000)])
    everywhere = np.column_stack([cloud, rng.uniform(3, 30, 4000)])
    wall = np.column_stack([cloud, np.full(4000, 9.0)])
    for points in (everywhere, wall, everywhere[:50], everywhere * [1, -1, 1], everywhere[:0]):
        assert fit_ground(points) is None
