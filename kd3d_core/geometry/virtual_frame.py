"""The virtual LiDAR frame: the detector frame of a robot that has no LiDAR."""

import math

import numpy as np

from kd3d_core.errors import CalibrationError

KITTI_LIDAR_HEIGHT = 1.73
"""Height in metres of KITTI's velodyne over the ground, which the anchors assume."""

VIRTUAL_FRAME = "kd3d_lidar"
"""Its name, where nothing else is said."""


def virtual_lidar_from_camera(
    camera_height: float, pitch_deg: float = 0.0, roll_deg: float = 0.0
) -> np.ndarray:
    """4x4 `lidar_from_camera` of a robot without a LiDAR: level, and over the ground as KITTI's.

    The camera is `camera_height` metres over the ground and looks straight ahead, `pitch_deg`
    degrees below the horizontal; its right side is turned down by `roll_deg`. Without these the
    rotation is that between an optical frame and x forward, y left, z up (REP 103).
    `CalibrationError` unless the height is between 0 and 100 m and angles are below 60 degrees.

    >>> lidar_from_camera = virtual_lidar_from_camera(1.65)
    >>> (lidar_from_camera @ [2, 1.65, 10, 1]).round(2).tolist()  # on the road, 2 m to the right
    [10.0, -2.0, -1.73, 1.0]
    >>> (virtual_lidar_from_camera(1.65, 10.0)[:3, 2]).round(2).tolist()  # the optical axis
    [0.98, 0.0, -0.17]
    """
    if not 0 < camera_height < 100:
        raise CalibrationError(f"camera_height is {camera_height} m: give metres over the ground")
    for name, angle in (("pitch", pitch_deg), ("roll", roll_deg)):
        if not -60 < angle < 60:
            raise CalibrationError(f"the camera's {name} is {angle} degrees: give less than 60")
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    sine, cosine = math.sin(pitch), math.cos(pitch)
    pitched = np.array([[0, -sine, cosine], [-1, 0, 0], [0, -cosine, -sine]])
    sine, cosine = math.sin(roll), math.cos(roll)
    matrix = np.eye(4)
    matrix[:3, :3] = pitched @ [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]] + 0.0  # no -0.0
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
