"""A tree of static transforms, filled from `/tf_static`.

Extrinsics of a camera do not move, so the part of tf2 that buffers and interpolates isn't needed,
and neither is tf2_ros, which only ROS installs have.
"""

import numpy as np

from kd3d_core.errors import CalibrationError


class StaticFrames:
    """Coordinate frames, each known by its pose in its parent.

    One thread may add frames while others look them up: what is known is replaced as a whole.
    """

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}

    def add(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Say where `child` is; what was known of it before is replaced.

        Raises:
            CalibrationError: when a name is empty, both are the same, or the transform would
                close a circle. Then nothing changes.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if not parent or not child or parent == child:
            raise CalibrationError(f"transform from {child!r} to {parent!r}: two names are needed")
        if child in self._ancestors(parent):
            raise CalibrationError(f"transform from {child!r} to {parent!r} closes a circle")
        pose = np.array(parent_from_child, np.float64)
        self._parents = {**self._parents, child: (parent, pose)}

    def lookup(self, target: str, source: str) -> np.ndarray:
        """The 4x4 `target_from_source`.

        Raises:
            CalibrationError: saying which of the frames is unknown, or that nothing joins them.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        targets, sources = self._ancestors(target), self._ancestors(source)
        for ancestor, ancestor_from_source in sources.items():
            if ancestor in targets:
                return np.linalg.inv(targets[ancestor]) @ ancestor_from_source
        parents = self._parents
        known = set(parents) | {parent for parent, _ in parents.values()}
        missing = [name for name in (target, source) if name not in known]
        reason = f"unknown: {', '.join(missing)}" if missing else "nothing joins them"
        raise CalibrationError(
            f"no static transform from {source!r} to {target!r} ({reason}); "
            f"frames on /tf_static: {', '.join(sorted(known)) or 'none'}"
        )

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """`ancestor_from_frame` of `frame` itself and all frames above it, nearest first."""
        parents = self._parents
        matrix = np.eye(4)
        ancestors = {frame: matrix}
        while frame in parents:
            frame, parent_from_child = parents[frame]
            matrix = parent_from_child @ matrix
            ancestors[frame] = matrix
        return ancestors
