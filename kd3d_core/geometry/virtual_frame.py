"""The virtual LiDAR frame: the detector frame of a robot that has no LiDAR."""

import math

import numpy as np

from kd3d_core.errors import CalibrationError

KITTI_LIDAR_HEIGHT = 1.73
"""Height in metres of KITTI's velodyne over the ground, which the anchors assume."""

VIRTUAL_FRAME = "kd3d_lidar"
"""Its name, where nothing else is said."""

_STEEPEST = 0.02
"""Cosine of the steepest pitch: closer than a degree to the vertical, ahead is noise."""


def virtual_lidar_from_camera(camera_height: float, camera_pitch: float = 0.0) -> np.ndarray:
    """4x4 `lidar_from_camera` of a robot without a LiDAR: level, and over the ground as KITTI's.

    The camera is `camera_height` metres over the ground and looks straight ahead: the rotation is
    that between an optical frame and x forward, y left, z up (REP 103).

    Args:
        camera_height: metres.
        camera_pitch: by how much the camera looks down, radians.

    Raises:
        CalibrationError: the height isn't between 0 and 100 m, or the camera looks straight up or
            down.

    >>> lidar_from_camera = virtual_lidar_from_camera(1.65)
    >>> (lidar_from_camera @ [2, 1.65, 10, 1]).round(2).tolist()  # on the road, 2 m to the right
    [10.0, -2.0, -1.73, 1.0]
    >>> lidar_from_camera = virtual_lidar_from_camera(1.0, math.radians(45))
    >>> (lidar_from_camera @ [0, 0, math.sqrt(2), 1]).round(2).tolist()  # where it looks at
    [1.0, 0.0, -1.73, 1.0]
    """
    sin, cos = math.sin(camera_pitch), math.cos(camera_pitch)
    return level_lidar_from_camera(np.array([0.0, -cos, -sin]), camera_height)


def level_lidar_from_camera(up: np.ndarray, camera_height: float) -> np.ndarray:
    """As `virtual_lidar_from_camera`, of a camera whose pitch and roll gravity tells.

    >>> level_lidar_from_camera(np.array([-1.0, 0, 0]), 1.73)[:3, :3].tolist()  # lies on its side
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]

    Args:
        up: `(3,)` where up is in the camera's optical frame, a unit vector.
        camera_height: metres over the ground.
    """
    if not 0 < camera_height < 100:
        raise CalibrationError(f"camera_height is {camera_height} m: give metres over the ground")
    ahead = np.array([0.0, 0.0, 1.0]) - up[2] * up
    length = float(np.linalg.norm(ahead))
    if not length > _STEEPEST:
        raise CalibrationError("the camera looks straight up or down: ahead can't be told there")
    ahead /= length
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([ahead, np.cross(up, ahead), up]) + 0.0  # no -0.0
    matrix[2, 3] = camera_height - KITTI_LIDAR_HEIGHT
    return matrix


def camera_height(lidar_from_camera: np.ndarray) -> float:
    """Height over the ground in metres of a camera, in a detector frame as models need it.

    >>> round(camera_height(virtual_lidar_from_camera(0.8)), 3)
    0.8
    """
    return float(lidar_from_camera[2, 3]) + KITTI_LIDAR_HEIGHT


def camera_pitch_deg(lidar_from_camera: np.ndarray) -> float:
    """Degrees by which the optical axis points below the horizontal, from the 4x4 extrinsics.

    >>> camera_pitch_deg(virtual_lidar_from_camera(1.65))
    0.0
    """
    down = 0.0 - float(lidar_from_camera[2, 2])  # no -0.0
    return math.degrees(math.asin(min(max(down, -1.0), 1.0)))
