"""Where a camera's data set puts its points: the LiDAR's frame, as far as models can take it.

Models look along x, with z up and the ground at z = -1.73 m (`geometry.virtual_frame`). The
LiDAR's frame is kept where it nearly is so: its points stay what they were, bit for bit. For a
camera that looks to another side, it is turned by quarters of a circle, which exchanges columns and
signs and nothing else; and if it is known how high the camera is, it is moved up or down.
"""

import math

import numpy as np

from kd3d_core.geometry.virtual_frame import camera_height

_UPRIGHT = math.cos(math.radians(30))
_PLAUSIBLE_M = (0.05, 6.0)


def detector_from_lidar(lidar_from_camera: np.ndarray, height_m: float | None) -> np.ndarray:
    """The 4x4 that turns and moves the points of a LiDAR for a camera's data set.

    Args:
        lidar_from_camera: 4x4.
        height_m: of the camera over the ground; None leaves the points as high as they are.

    >>> rear = np.array([[0.0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    >>> detector_from_lidar(rear, None)[:2, :2].tolist()
    [[-1.0, 0.0], [0.0, -1.0]]
    """
    ahead = lidar_from_camera[:3, 2]
    quarters = round(math.atan2(ahead[1], ahead[0]) / (math.pi / 2)) % 4
    cos, sin = ((1, 0), (0, -1), (-1, 0), (0, 1))[quarters]
    matrix = np.eye(4)
    matrix[:2, :2] = [[cos, -sin], [sin, cos]]
    if height_m is not None:
        matrix[2, 3] = height_m - camera_height(lidar_from_camera)
    return matrix


def placement_doubts(detector_from_camera: np.ndarray) -> tuple[str, ...]:
    """What is odd about where a camera is in the frame of its data set.

    >>> placement_doubts(np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
    ()
    """
    down, height = -detector_from_camera[2, 1], camera_height(detector_from_camera)
    doubts = []
    if down < _UPRIGHT:
        tilt = math.degrees(math.acos(max(-1.0, min(1.0, down))))
        doubts.append(
            f"the image's columns are {tilt:.0f} degrees off the LiDAR's z axis: models need a "
            "frame with x ahead and z up, so check the extrinsics"
        )
    if not _PLAUSIBLE_M[0] <= height <= _PLAUSIBLE_M[1]:
        doubts.append(
            f"the camera would be {height:.2f} m over the ground if the LiDAR were as high as "
            "KITTI's, 1.73 m: give --camera-height"
        )
    return tuple(doubts)
