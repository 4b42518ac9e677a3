"""Where the detector is in the frame in which tracks are kept."""

import numpy as np

from kd3d_core.errors import Once
from kd3d_core.geometry.pose import pose_from_matrix
from kd3d_core.geometry.transforms import interpolated
from kd3d_core.tracking.config import TrackerConfig


class EgoMotion:
    """The detector's pose in the tracking frame: the detector's own frame at the first pose.

    So the axes are the detector's, whichever way those of the world point, and numbers are small.
    """

    def __init__(self, config: TrackerConfig, say: Once) -> None:
        self._config = config
        self._say = say
        self.reset()

    def reset(self) -> None:
        """Forget all poses."""
        self._is_new = True
        self._tracking_from_world: np.ndarray | None = None
        self._known: list[tuple[int, np.ndarray]] = []  # the last two poses in the tracking frame

    @property
    def has_poses(self) -> bool:
        """Whether the tracking frame stands still in the world."""
        return self._tracking_from_world is not None

    def step(self, stamp_ns: int, world_from_detector: np.ndarray | None) -> np.ndarray | None:
        """The 4x4 `tracking_from_detector` at a stamp; None if it can't be told.

        Then the frame isn't joined to the ones before: reset, and ask again.

        Raises:
            CalibrationError: the pose isn't a rigid transform.
        """
        if world_from_detector is not None:
            pose_from_matrix(world_from_detector)
            world_from_detector = np.asarray(world_from_detector, np.float64)
        if self._is_new:
            self._is_new = False
            if world_from_detector is not None:
                self._tracking_from_world = np.linalg.inv(world_from_detector)
        if self._tracking_from_world is None:
            if world_from_detector is not None:
                self._say("from now on it is known where the detector is: tracks begin anew")
                return None
            self._say(
                "nobody says where the detector is: objects are tracked in its own frame, their "
                "velocities relative to it; give odometry or /tf for better tracks"
            )
            return np.eye(4)
        if world_from_detector is None:
            return self._bridge(stamp_ns)
        return self._learn(stamp_ns, self._tracking_from_world @ world_from_detector)

    def _bridge(self, stamp_ns: int) -> np.ndarray | None:
        missing_s = (stamp_ns - self._known[-1][0]) / 1e9
        if missing_s > self._config.max_pose_gap_s:
            self._say(
                f"for {missing_s:.2g} s nobody has said where the detector is: tracks begin anew",
                "pose gap",
            )
            return None
        self._say(
            "for some frames nobody says where the detector is: it is taken to move on as before"
        )
        return self._extrapolated(stamp_ns)

    def _learn(self, stamp_ns: int, pose: np.ndarray) -> np.ndarray | None:
        if self._known and (stamp_ns - self._known[-1][0]) / 1e9 <= self._config.max_pose_gap_s:
            jump = float(np.linalg.norm(pose[:3, 3] - self._extrapolated(stamp_ns)[:3, 3]))
            if len(self._known) == 2 and jump > self._config.max_pose_jump:
                self._say(f"the detector's pose jumps by {jump:.2g} m: tracks begin anew", "jump")
                return None
        self._known = [*self._known[-1:], (stamp_ns, pose)]
        return pose

    def _extrapolated(self, stamp_ns: int) -> np.ndarray:
        (first_ns, first), (last_ns, last) = self._known[0], self._known[-1]
        if first_ns == last_ns:
            return last
        return interpolated(first, last, (stamp_ns - first_ns) / (last_ns - first_ns))
