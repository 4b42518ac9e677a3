"""Poses: the one place that turns ROS's translations and quaternions into matrices and back."""

import math
from collections.abc import Sequence

import numpy as np

from kd3d_core.errors import CalibrationError

# A quaternion whose norm is between these is normalised; others must be something else.
_NORMS = (0.01, 100.0)
# Metres; nothing on Earth is farther, and what is doesn't fit into the float32 of a point cloud.
_FARTHEST = 1e9
# How far a rotation matrix may be from orthonormal: the numbers of calibrations are rounded.
_TOLERANCE = 0.01


def matrix_from_pose(translation: Sequence[float], quaternion: Sequence[float]) -> np.ndarray:
    """4x4 `parent_from_child` from the child's pose in its parent.

    >>> matrix_from_pose([1, 2, 3], [0, 0, 1, 1]).round(3).tolist()  # a quarter turn about z
    [[0.0, -1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 1.0]]

    Args:
        translation: x, y, z, metres; `CalibrationError` if one is beyond a million kilometres.
        quaternion: x, y, z, w, which need not be normalised; `CalibrationError` if its norm is
            below 0.01 or above 100, so that it is not a rotation.
    """
    move, turn = np.array(translation, np.float64), np.array(quaternion, np.float64)
    norm = math.hypot(*turn)
    if not (np.isfinite(move).all() and np.isfinite(turn).all()):
        reason = "has values that are not finite"
    elif np.abs(move).max() > _FARTHEST:
        reason = "is farther than a million kilometres"
    elif not _NORMS[0] <= norm <= _NORMS[1]:
        reason = f"has a quaternion with norm {norm:.3g} instead of 1"
    else:
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(turn)
        matrix[:3, 3] = move
        return matrix
    raise CalibrationError(
        f"translation {move.tolist()} with quaternion {turn.tolist()} is not a pose: it {reason}; "
        "correct it in the node or file that it comes from"
    )


def _rotation(quaternion: np.ndarray) -> list[list[float]]:
    """3x3 of a quaternion x, y, z, w of any norm; rounded as SciPy's is, bit for bit."""
    x, y, z, w = quaternion
    x, y, z, w = (quaternion / math.sqrt(x * x + y * y + z * z + w * w)).tolist()
    return [
        [x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w],
    ]


def pose_from_matrix(matrix: np.ndarray) -> tuple[list[float], list[float]]:
    """Translation x, y, z and unit quaternion x, y, z, w, with w >= 0, of a 4x4 rigid transform.

    >>> translation, quaternion = pose_from_matrix(matrix_from_pose([1, 2, 3], [0, 0, 1, 1]))
    >>> translation, np.round(quaternion, 3).tolist()
    ([1.0, 2.0, 3.0], [0.0, 0.0, 0.707, 0.707])

    Raises:
        CalibrationError: a value isn't finite, or the upper left 3x3 is not a rotation.
    """
    from scipy.spatial.transform import Rotation  # takes longer to load than all of a bag's topics

    matrix = np.asarray(matrix, np.float64)
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all():
        raise CalibrationError(f"{matrix.tolist()} is not a pose: a value is not finite")
    skew = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if skew > _TOLERANCE or np.linalg.det(rotation) < 0:
        raise CalibrationError(
            f"{matrix.tolist()} is not a pose: its upper left 3x3 scales, shears or mirrors"
        )
    quaternion = Rotation.from_matrix(rotation).as_quat()
    # `as_quat(canonical=True)` came with SciPy 1.11; Ubuntu 22.04 has 1.8.
    quaternion = quaternion if quaternion[3] >= 0 else -quaternion
    return matrix[:3, 3].tolist(), quaternion.tolist()
