"""Where the ground is under a camera: a plane fitted to what a depth network says."""

import math
from dataclasses import dataclass

import numpy as np

_NEAREST_M, _FARTHEST_M = 2.0, 30.0
_MOST_POINTS = 4000
_TRIALS = 300
_STEEPEST = math.cos(math.radians(25.0))
_REFINEMENTS = 3
_LEAST_POINTS = 200
_LEAST_SHARE = 0.4
"""Of the points below the horizon: beside the road there are cars, walls and bushes."""


@dataclass(frozen=True)
class Ground:
    """The ground, as a camera sees it.

    Attributes:
        height_m: of the camera over it.
        pitch_deg: by which the optical axis points below its horizon.
        roll_deg: by which the camera's right side is turned down.
        share: of the points below the camera that lie on it.
    """

    height_m: float
    pitch_deg: float
    roll_deg: float
    share: float


def up_in_camera(pitch_deg: float, roll_deg: float) -> np.ndarray:
    """`(3,)` where up is in the optical frame of a camera that is tilted as `Ground` has it.

    >>> up_in_camera(30.0, 0.0).round(2).tolist()  # looks down
    [0.0, -0.87, -0.5]
    """
    pitch, roll = math.radians(pitch_deg), math.radians(roll_deg)
    level = math.cos(pitch)
    return -np.array([math.sin(roll) * level, math.cos(roll) * level, math.sin(pitch)]) + 0.0


def fit_ground(points: np.ndarray) -> Ground | None:
    """The plane that most of what is below a camera lies on; None if there is no such plane.

    RANSAC over planes within 25 degrees of the camera's own horizontal, then least squares on what
    lies within 5 cm and 2 % of the distance. Equal points give equal answers.

    >>> across, ahead = np.meshgrid(np.linspace(-5, 5, 40), np.linspace(3, 25, 40))
    >>> road = np.stack([across, np.full_like(across, 1.5), ahead], -1).reshape(-1, 3)
    >>> ground = fit_ground(road)
    >>> round(ground.height_m, 3), round(abs(ground.pitch_deg), 3), ground.share
    (1.5, 0.0, 1.0)

    Args:
        points: `(N, 3)` metres in the camera's optical frame: x right, y down, z forward.
    """
    below = points[
        (points[:, 1] > 0) & (points[:, 2] > _NEAREST_M) & (points[:, 2] < _FARTHEST_M)
    ].astype(np.float64)
    if len(below) < _LEAST_POINTS:
        return None
    below = below[:: -(-len(below) // _MOST_POINTS)]
    tolerance = 0.05 + 0.02 * below[:, 2]
    planes = _trial_planes(below)
    if not len(planes):
        return None
    hits = (np.abs(below @ planes[:, :3].T - planes[:, 3]) < tolerance[:, None]).sum(0)
    plane = planes[hits.argmax()]
    for _ in range(_REFINEMENTS):
        inside = np.abs(below @ plane[:3] - plane[3]) < tolerance
        if inside.sum() < _LEAST_POINTS / 2:
            return None
        plane = _least_squares(below[inside], tolerance[inside])
    share = float((np.abs(below @ plane[:3] - plane[3]) < tolerance).mean())
    (right, down, forward), height = plane[:3], float(plane[3])
    if share < _LEAST_SHARE or down < _STEEPEST or height <= 0:
        return None
    return Ground(
        height, math.degrees(math.asin(forward)), math.degrees(math.atan2(right, down)), share
    )


def _trial_planes(points: np.ndarray) -> np.ndarray:
    """`(T, 4)`: unit normals that point down and the distance along them, of planes of 3 points."""
    corners = points[np.random.default_rng(0).integers(len(points), size=(_TRIALS, 3))]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1)
    normal, corner = normal[length > 1e-9], corners[length > 1e-9, 0]
    normal /= length[length > 1e-9, None]
    normal *= np.where(normal[:, 1:2] < 0, -1, 1)
    planes = np.column_stack([normal, (normal * corner).sum(1)])
    return planes[(planes[:, 1] > _STEEPEST) & (planes[:, 3] > 0)]


def _least_squares(points: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """The plane `(4,)` nearest to the points in height; far ones, which are less sure, count less.

    Heights are written as `y = a x + b z + c`: the plane is nearly horizontal.
    """
    columns = np.column_stack([points[:, 0], points[:, 2], np.ones(len(points))])
    a, b, c = np.linalg.lstsq(columns / tolerance[:, None], points[:, 1] / tolerance, rcond=None)[0]
    return np.array([-a, 1, -b, c]) / math.sqrt(a * a + b * b + 1)
