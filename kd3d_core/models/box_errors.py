"""How far a detector's boxes are off, by their distance: what pose covariances are made of.

The table is measured (`kd3d-eval errors`), never guessed: a box that is farther than its last row,
or whose detector has none, has no covariance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class BoxErrors:
    """Root mean square errors of the boxes up to a distance, from that of the row before.

    Attributes:
        to_m: distance from the camera over ground.
        boxes: how many were measured.
        along_m, across_m: of the centre over ground, along the line of sight and across it.
        up_m: of the centre's height.
        yaw_rad: of the heading.
    """

    to_m: float
    boxes: int
    along_m: float
    across_m: float
    up_m: float
    yaw_rad: float

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value < 0 or (value == 0 and each.name in ("to_m", "boxes")):
                raise ConfigError(f"box_errors: {each.name} is {value:g}: give a positive number")


def box_covariances(
    table: Sequence[BoxErrors], boxes: np.ndarray, camera_xy: np.ndarray
) -> np.ndarray | None:
    """`(N, 6, 6)` of x, y, z in square metres and the turns about them in square radians.

    >>> table = [BoxErrors(20.0, 50, along_m=2.0, across_m=0.5, up_m=0.25, yaw_rad=0.5)]
    >>> boxes = np.array([[0.0, 10, -1.7, 4, 1.6, 1.5, 0], [0.0, 21, -1.7, 4, 1.6, 1.5, 0]])
    >>> near, far = box_covariances(table, boxes, np.zeros(2))  # both to the left
    >>> near.diagonal().round(4).tolist()
    [0.25, 4.0, 0.0625, 0.0, 0.0, 0.25]
    >>> far.any()  # nothing is known of that distance
    np.False_

    Args:
        table: rows of rising `to_m`; None is returned if there are none.
        boxes: `(N, 7)` in the detector frame.
        camera_xy: `(2,)` where the camera is in it.
    """
    if not table:
        return None
    ray = np.asarray(boxes, np.float64)[:, :2] - camera_xy
    distance = np.hypot(*ray.T)
    row = np.searchsorted([each.to_m for each in table], distance, side="right")
    squares = np.array(
        [(each.along_m, each.across_m, each.up_m, each.yaw_rad) for each in table] + [(0.0,) * 4]
    )
    along, across, up, yaw = (squares**2)[row].T
    x, y = ray.T / np.maximum(distance, 1e-9)
    covariances = np.zeros((len(ray), 6, 6))
    covariances[:, 0, 0] = x * x * along + y * y * across
    covariances[:, 1, 1] = y * y * along + x * x * across
    covariances[:, 0, 1] = covariances[:, 1, 0] = x * y * (along - across)
    covariances[:, 2, 2] = up
    covariances[:, 5, 5] = yaw
    return covariances
