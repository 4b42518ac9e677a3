"""Corrects sweeps for the LiDAR's own motion: each point as it would be seen from one place.

A LiDAR takes a tenth of a second to look around, in which a car at 50 km/h drives 1.4 m. What moves
in the world itself isn't known and stays as it was measured.
"""

from collections.abc import Callable

import numpy as np

from kd3d_core.errors import CalibrationError, shown
from kd3d_core.messages.types import PointCloud
from kd3d_core.runtime.bag_transforms import BagTransforms, steady_frame

MOVED = "each point moved"
MOVED_WHOLE = "moved as a whole: the cloud has no times of its points"

# Poses are asked for at this distance, and points go along the chord between two of them: at 2 rad
# a second, that is 0.1 mm off at 50 m.
_STEP_S = 0.002
_MOST_STEPS = 1000


def move_points(
    points: np.ndarray, times_s: np.ndarray, pose_at: Callable[[float], np.ndarray]
) -> np.ndarray:
    """Points, each by the pose of its time.

    Args:
        points: `(N, 3 + C)`: x, y, z and what else there is, which stays as it is.
        times_s: `(N,)`, when each was measured, seconds.
        pose_at: the 4x4 transform of what was measured at a time; asked every 2 ms and interpolated
            between.

    >>> def pose_at(time_s):  # 10 m/s along x
    ...     pose = np.eye(4)
    ...     pose[0, 3] = 10 * time_s
    ...     return pose
    >>> move_points(np.array([[5.0, 0, 0], [5.0, 0, 0]]), np.array([0.0, 0.05]), pose_at).tolist()
    [[5.0, 0.0, 0.0], [5.5, 0.0, 0.0]]
    """
    if not len(points):
        return points.copy()
    first, last = float(times_s.min()), float(times_s.max())
    count = min(int(np.ceil((last - first) / _STEP_S)), _MOST_STEPS)
    knots = np.linspace(first, last, count + 1)
    poses = np.stack([pose_at(float(time_s))[:3] for time_s in knots])
    place = (times_s - first) / (last - first) * count if count else np.zeros(len(points))
    before = np.minimum(place.astype(np.int64), max(count - 1, 0))
    after = np.minimum(before + 1, count)
    share = (place - before)[:, None]
    xyz = points[:, :3].astype(np.float64)
    moved = points.copy()
    moved[:, :3] = (1 - share) * _each(poses[before], xyz) + share * _each(poses[after], xyz)
    return moved


def _each(poses: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points `(N, 3)`, each by a pose of its own, `(N, 3, 4)`."""
    moved: np.ndarray = np.einsum("nij,nj->ni", poses[:, :, :3], points) + poses[:, :, 3]
    return moved


class MotionCorrection:
    """Moves the points of sweeps to the time of their images, by a bag's transforms."""

    def __init__(self, transforms: BagTransforms, fixed_frame: str = "") -> None:
        """
        Args:
            transforms: of the bag.
            fixed_frame: frame in which the world stands still; empty: `odom`, else the topmost
                frame over the LiDAR's.
        """
        self._transforms = transforms
        self._fixed_frame = fixed_frame.lstrip("/")

    def correct(
        self, cloud: PointCloud, stamp_ns: int, to_ns: int, recorded_ns: int
    ) -> tuple[np.ndarray, str]:
        """The points `(N, 4)` in the LiDAR's frame at a time, and in a few words what was done.

        They are as they were if it isn't known how the LiDAR moved; the words say so.

        Args:
            stamp_ns: of the cloud, to which its times are relative.
            to_ns: to which time, by the same clock.
            recorded_ns: when the cloud was recorded.

        Raises:
            DataError: the bag is damaged.
        """
        self._transforms.follow(recorded_ns)
        frame, buffer = cloud.frame_id.lstrip("/"), self._transforms.buffer
        chain = [frame, *buffer.ancestors(frame, stamp_ns)]
        fixed = self._fixed_frame or steady_frame(chain)
        if not any(map(buffer.moves, chain)):
            return cloud.points, f"not moved: neither /tf nor odometry moves {shown(frame)!r}"
        times_s = np.zeros(len(cloud.points)) if cloud.times_s is None else cloud.times_s
        try:
            now_from_fixed = buffer.lookup(frame, fixed, to_ns)
            points = move_points(
                cloud.points,
                times_s,
                lambda time_s: (
                    now_from_fixed @ buffer.lookup(fixed, frame, stamp_ns + round(1e9 * time_s))
                ),
            )
        except CalibrationError:
            return cloud.points, (
                f"not moved: {shown(frame)!r} in {shown(fixed)!r} isn't known from its first point "
                "to its image"
            )
        return points, MOVED_WHOLE if cloud.times_s is None else MOVED

    def pose_change(
        self, frame: str, stamp_ns: int, to_ns: int, recorded_ns: int
    ) -> np.ndarray | None:
        """The 4x4 that takes what stood still from where a frame was at a stamp to where it is.

        Boxes of labels go by it, as the points that `correct` moves. None where it isn't known.
        """
        self._transforms.follow(recorded_ns)
        frame, buffer = frame.lstrip("/"), self._transforms.buffer
        fixed = self._fixed_frame or steady_frame([frame, *buffer.ancestors(frame, stamp_ns)])
        try:
            then, now = (buffer.lookup(fixed, frame, each) for each in (stamp_ns, to_ns))
        except CalibrationError:
            return None
        change: np.ndarray = np.linalg.inv(now) @ then
        return change
