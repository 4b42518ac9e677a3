"""Poses of KITTI's car from its GPS/IMU unit, an OXTS RT3003."""

from collections.abc import Sequence

import numpy as np

_EARTH_RADIUS_M = 6_378_137.0


def odom_from_imu(packets: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """4x4 from the unit (x forward, y left, z up) to where it was at the first packet.

    As KITTI's own development kit of the raw data (convertOxtsToPose.m) has it: Mercator's
    projection, scaled for the latitude at the start.

    Args:
        packets: latitude, longitude (degrees), altitude (metres), roll, pitch, yaw (radians; yaw 0
            is east, counter-clockwise) and more.

    >>> step_deg = np.rad2deg(10 / 6378137)  # 10 m along the equator, which the car follows
    >>> start, end = odom_from_imu([[0, 0, 100, 0, 0, 0], [0, step_deg, 101, 0, 0, np.pi / 2]])
    >>> end.round(6).tolist()
    [[0.0, -1.0, 0.0, 10.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    """
    if not packets:
        return []
    scale = np.cos(np.deg2rad(packets[0][0]))
    poses = [_mercator_pose(packet, scale) for packet in packets]
    from_first = np.linalg.inv(poses[0])
    return [from_first @ pose for pose in poses]


def _mercator_pose(packet: Sequence[float], scale: float) -> np.ndarray:
    latitude, longitude, altitude, roll, pitch, yaw = packet[:6]
    pose = np.eye(4)
    pose[:3, :3] = _about(2, yaw) @ _about(1, pitch) @ _about(0, roll)
    pose[0, 3] = scale * _EARTH_RADIUS_M * np.deg2rad(longitude)
    pose[1, 3] = scale * _EARTH_RADIUS_M * np.log(np.tan(np.deg2rad(90 + latitude) / 2))
    pose[2, 3] = altitude
    return pose


def _about(axis: int, angle: float) -> np.ndarray:
    """3x3 rotation about an axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = np.cos(angle)
    rotation[second, first] = np.sin(angle)
    rotation[first, second] = -rotation[second, first]
    return rotation
