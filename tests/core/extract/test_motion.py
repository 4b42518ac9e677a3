"""A LiDAR that drives along an arc while it looks at a wall and at a parked car."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kd3d_core.data.bag import BagWriter
from kd3d_core.extract.motion import MOVED, MOVED_WHOLE, MotionCorrection, move_points
from kd3d_core.geometry.points import transform
from kd3d_core.messages.types import Message, Odometry, PointCloud, Transform, Transforms
from kd3d_core.runtime.bag_transforms import BagTransforms

S = 10**9
SPEED, TURN = 15.0, 0.6  # m/s, rad/s
SWEEP_S = 0.1
START_S = 100.0
BASE_FROM_LIDAR = np.eye(4)
BASE_FROM_LIDAR[:3, 3] = 1.2, 0.1, 1.7
BASE_FROM_LIDAR[:2, :2] = [[0, -1], [1, 0]]
WALL_Y, CAR_X = 9.0, 20.0  # of the planes, in `odom`


def odom_from_base(time_s: float | np.ndarray) -> np.ndarray:
    """Poses `(..., 4, 4)` along a circle, exactly."""
    yaw = TURN * (np.asarray(time_s) - START_S)
    radius = SPEED / TURN
    pose = np.zeros((*yaw.shape, 4, 4))
    pose[..., 0, 0], pose[..., 0, 1], pose[..., 0, 3] = np.cos(yaw), -np.sin(yaw), np.sin(yaw)
    pose[..., 1, 0], pose[..., 1, 1], pose[..., 1, 3] = np.sin(yaw), np.cos(yaw), 1 - np.cos(yaw)
    pose[..., :2, 3] *= radius
    pose[..., 2, 2] = pose[..., 3, 3] = 1
    return pose


def sweep(has_times: bool = True) -> PointCloud:
    """One turn of 16 beams: what each ray hits first of two planes, in the LiDAR at its time."""
    times_s = np.repeat(np.linspace(0, SWEEP_S, 1800), 16)
    azimuth = -2 * np.pi * times_s / SWEEP_S
    elevation = np.tile(np.radians(np.linspace(-4, 4, 16)), 1800)
    rays = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ],
        -1,
    )
    poses = odom_from_base(START_S + times_s) @ BASE_FROM_LIDAR
    directions = np.einsum("nij,nj->ni", poses[:, :3, :3], rays)
    with np.errstate(divide="ignore"):
        ranges = (np.array([CAR_X, WALL_Y]) - poses[:, :2, 3]) / directions[:, :2]
    ranges = np.where(ranges > 0, ranges, np.inf).min(1)
    hit = ranges < 50
    points = np.zeros((hit.sum(), 4), np.float32)
    points[:, :3] = (rays * ranges[:, None])[hit]
    points[:, 3] = 0.25
    stamp = round(START_S * S)
    return PointCloud(stamp, "lidar", points, times_s[hit] if has_times else None)


def off_planes(points: np.ndarray, time_s: float) -> np.ndarray:
    """How far points in the LiDAR's frame at a time are from the nearer of the two planes."""
    world = transform(points[:, :3].astype(float), odom_from_base(time_s) @ BASE_FROM_LIDAR)
    return np.abs(world[:, :2] - (CAR_X, WALL_Y)).min(1)


def tf(time_s: float) -> Transform:
    return Transform(round(time_s * S), "odom", "base", odom_from_base(time_s))


def tf_messages(times_s: np.ndarray) -> list[tuple[float, str, Message]]:
    return [(time_s, "/tf", Transforms((tf(time_s),))) for time_s in times_s]


def odometry(times_s: np.ndarray) -> list[tuple[float, str, Message]]:
    return [(time_s, "/odom", Odometry(tf(time_s))) for time_s in times_s]


def write(path: Path, *messages: tuple[float, str, Message]) -> BagTransforms:
    static = Transforms((Transform(0, "base", "lidar", BASE_FROM_LIDAR),))
    with BagWriter(path) as writer:
        for time_s, topic, message in [(START_S - 0.5, "/tf_static", static), *messages]:
            if topic not in writer.counts:
                writer.add_topic(topic, message.ros_type)
            writer.write(topic, round(time_s * S), message)
    return BagTransforms(path)


TIMES_S = np.arange(START_S - 0.3, START_S + 0.4, 0.01)


@pytest.mark.parametrize("told_by", [tf_messages, odometry])
@pytest.mark.parametrize("to_s", [START_S, START_S + 0.07, START_S + 0.15])
def test_walls_are_straight_to_the_millimetre(
    tmp_path: Path,
    told_by: Callable[[np.ndarray], list[tuple[float, str, Message]]],
    to_s: float,
) -> None:
    cloud = sweep()
    assert np.percentile(off_planes(cloud.points, to_s), 90) > 0.5  # as it is
    with write(tmp_path / "bag", *told_by(TIMES_S)) as transforms:
        correction = MotionCorrection(transforms)
        points, outcome = correction.correct(cloud, cloud.stamp_ns, round(to_s * S), cloud.stamp_ns)
    assert outcome == MOVED
    assert points.dtype == np.float32
    assert off_planes(points, to_s).max() < 1e-3
    np.testing.assert_array_equal(points[:, 3], cloud.points[:, 3])


def test_without_times_the_cloud_goes_as_a_whole(tmp_path: Path) -> None:
    cloud, to_s = sweep(has_times=False), START_S + 0.05
    with write(tmp_path / "bag", *tf_messages(TIMES_S)) as transforms:
        points, outcome = MotionCorrection(transforms).correct(
            cloud, cloud.stamp_ns, round(to_s * S), cloud.stamp_ns
        )
    assert outcome == MOVED_WHOLE
    moved = np.linalg.inv(odom_from_base(to_s) @ BASE_FROM_LIDAR) @ (
        odom_from_base(START_S) @ BASE_FROM_LIDAR
    )
    expected = transform(cloud.points[:, :3].astype(float), moved)
    np.testing.assert_allclose(points[:, :3], expected, atol=1e-3)


def test_boxes_go_as_the_points_do(tmp_path: Path) -> None:
    cloud, to_ns = sweep(has_times=False), round((START_S + 0.05) * S)
    stamps = cloud.stamp_ns, to_ns, cloud.stamp_ns
    with write(tmp_path / "bag", *tf_messages(TIMES_S)) as transforms:
        correction = MotionCorrection(transforms)
        points, _ = correction.correct(cloud, *stamps)
        change = correction.pose_change("/lidar", *stamps)
        assert change is not None
        moved = transform(cloud.points[:, :3].astype(float), change)
        np.testing.assert_allclose(points[:, :3], moved, atol=1e-5)
        assert correction.pose_change("lidar", cloud.stamp_ns, 9 * to_ns, cloud.stamp_ns) is None


def test_what_is_not_known_is_said_and_nothing_moves(tmp_path: Path) -> None:
    cloud = sweep()
    stamps = cloud.stamp_ns, cloud.stamp_ns + S // 20, cloud.stamp_ns
    with write(tmp_path / "parked") as transforms:
        points, outcome = MotionCorrection(transforms).correct(cloud, *stamps)
    assert outcome == "not moved: neither /tf nor odometry moves 'lidar'"
    np.testing.assert_array_equal(points, cloud.points)
    until = TIMES_S[TIMES_S < START_S + 0.06]
    with write(tmp_path / "cut", *tf_messages(until)) as transforms:
        points, outcome = MotionCorrection(transforms).correct(cloud, *stamps)
    assert outcome == ("not moved: 'lidar' in 'odom' isn't known from its first point to its image")
    np.testing.assert_array_equal(points, cloud.points)


def test_odom_is_preferred_to_a_map_in_which_the_robot_jumps(tmp_path: Path) -> None:
    cloud = sweep()
    jumps = [
        (time_s, "/tf", Transforms((Transform(round(time_s * S), "map", "odom", pose),)))
        for time_s, pose in ((START_S - 0.1, np.eye(4)), (START_S + 0.05, np.diag([1.0, 1, 1, 1])))
    ]
    jumps[1][2].transforms[0].parent_from_child[1, 3] = 3
    moves = sorted([*jumps, *tf_messages(TIMES_S)], key=lambda item: item[0])
    with write(tmp_path / "bag", *moves) as transforms:
        stamps = cloud.stamp_ns, cloud.stamp_ns, cloud.stamp_ns
        points, outcome = MotionCorrection(transforms).correct(cloud, *stamps)
        assert outcome == MOVED
        assert off_planes(points, START_S).max() < 1e-3
        points, outcome = MotionCorrection(transforms, "map").correct(cloud, *stamps)
    assert "isn't known" in outcome  # `map` ends at 0.05 s


def test_tf_counts_for_more_than_odometry(tmp_path: Path) -> None:
    """Odometry of another origin and drift, which begins before /tf and is recorded between."""
    wrong = [
        (time_s - 0.002, "/odom", Odometry(Transform(stamp, "odom", "base", np.eye(4))))
        for time_s, stamp in ((time_s, round(time_s * S) + 1) for time_s in TIMES_S)
    ]
    messages = sorted([*wrong, *tf_messages(TIMES_S)], key=lambda item: item[0])
    cloud = sweep()
    with write(tmp_path / "bag", *messages) as transforms:
        points, _ = MotionCorrection(transforms).correct(cloud, *[cloud.stamp_ns] * 3)
    assert off_planes(points, START_S).max() < 1e-3


def test_no_points() -> None:
    assert move_points(np.zeros((0, 4)), np.zeros(0), odom_from_base).shape == (0, 4)
