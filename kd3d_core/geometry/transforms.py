"""Transforms between coordinate frames, fixed or moving, as `/tf_static` and `/tf` say them.

What tf2's buffer does, without ROS: frames form trees, and the way between two frames leads over
their nearest common ancestor.
"""

from array import array
from bisect import bisect_left
from threading import Lock

import cv2
import numpy as np

from kd3d_core.errors import CalibrationError, listed, shown

_NUMBERS = 12  # of a pose: the first three rows of its 4x4


class _Track:
    """Where a moving frame was in its parent, ordered by stamp, in 112 bytes for each."""

    def __init__(self, child: str) -> None:
        self._child = child
        self._stamps_ns = array("q")
        self._names: list[str] = []
        self._parents = array("q")  # index into the names
        self._numbers = array("d")

    @property
    def newest_parent(self) -> str:
        return self._names[self._parents[-1]]

    def add(self, stamp_ns: int, parent: str, parent_from_child: np.ndarray) -> None:
        if parent not in self._names:
            self._names.append(parent)
        index = bisect_left(self._stamps_ns, stamp_ns)
        is_known = index < len(self._stamps_ns) and self._stamps_ns[index] == stamp_ns
        end = index + is_known
        self._stamps_ns[index:end] = array("q", [stamp_ns])
        self._parents[index:end] = array("q", [self._names.index(parent)])
        numbers = array("d", parent_from_child[:3].tobytes())
        self._numbers[_NUMBERS * index : _NUMBERS * end] = numbers

    def forget(self, newest_ns: int, history_ns: int) -> None:
        """Drop what is older than the history; all of it if the newest stamp is older than that."""
        oldest_ns = newest_ns - history_ns
        count = bisect_left(self._stamps_ns, oldest_ns)
        if self._stamps_ns and newest_ns < self._stamps_ns[-1] - history_ns:
            count = len(self._stamps_ns)
        del self._stamps_ns[:count], self._parents[:count], self._numbers[: _NUMBERS * count]

    def at(self, stamp_ns: int | None) -> tuple[str, np.ndarray]:
        """Parent, and pose in it, interpolated between the stamps around."""
        first_ns, last_ns = self._stamps_ns[0], self._stamps_ns[-1]
        link = f"{_quoted(self._child)} moves in {_quoted(self.newest_parent)}"
        if stamp_ns is None:
            raise CalibrationError(f"{link}, so a time is needed")
        if not first_ns <= stamp_ns <= last_ns:
            known = f"from {_seconds(first_ns)} to {_seconds(last_ns)} s"
            if first_ns == last_ns:
                known = f"at {_seconds(first_ns)} s alone"
            raise CalibrationError(f"{link} and is known {known}, not at {_seconds(stamp_ns)} s")
        index = bisect_left(self._stamps_ns, stamp_ns)
        after_ns, parent, pose = self._get(index)
        if after_ns == stamp_ns:
            return parent, pose
        before_ns, parent_before, pose_before = self._get(index - 1)
        if parent_before != parent:
            raise CalibrationError(
                f"{_quoted(self._child)} goes from {_quoted(parent_before)} to {_quoted(parent)} "
                f"between {_seconds(before_ns)} and {_seconds(after_ns)} s"
            )
        share = (stamp_ns - before_ns) / (after_ns - before_ns)
        return parent, interpolated(pose_before, pose, share)

    def _get(self, index: int) -> tuple[int, str, np.ndarray]:
        pose = np.eye(4)
        numbers = self._numbers[_NUMBERS * index : _NUMBERS * (index + 1)]
        pose[:3] = np.array(numbers).reshape(3, 4)
        return self._stamps_ns[index], self._names[self._parents[index]], pose


class TransformBuffer:
    """Coordinate frames, each known by its pose in its parent: for good, or at stamps.

    Between two stamps, translations are interpolated linearly and rotations along the shortest
    arc. Nothing is said about times before the first stamp or after the last one. Leading slashes
    of names, which ROS 1 had, are ignored.

    One thread may add transforms while others look them up.

    >>> buffer = TransformBuffer()
    >>> mast = np.eye(4)
    >>> mast[2, 3] = 1.5
    >>> buffer.add("base", "camera", mast)
    >>> for second in (0, 1):
    ...     moved = np.eye(4)
    ...     moved[0, 3] = 10 * second
    ...     buffer.add("map", "base", moved, stamp_ns=second * 10**9)
    >>> buffer.lookup("map", "camera", stamp_ns=300_000_000)[:3, 3].tolist()
    [3.0, 0.0, 1.5]
    """

    def __init__(self, history_ns: int | None = None) -> None:
        """
        Args:
            history_ns: how much of each moving frame's past is kept, nanoseconds; all of it if
                None. With a limit, a stamp that is older than that means that time has begun anew
                (a bag was started again), and what was known of the frame is forgotten.
        """
        self._history_ns = history_ns
        self._fixed: dict[str, tuple[str, np.ndarray]] = {}
        self._moving: dict[str, _Track] = {}
        self._lock = Lock()

    def add(
        self, parent: str, child: str, parent_from_child: np.ndarray, stamp_ns: int | None = None
    ) -> None:
        """Say where `child` is; what was known about it, at this stamp, is replaced.

        `stamp_ns` is when it was there; None if it never moves.

        Raises:
            CalibrationError: a name is empty, both are the same, the transform would close a
                circle, or it moves a frame that is known to be fixed. Then nothing changes.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        names = f"transform from {_quoted(child)} to {_quoted(parent)}"
        if not parent or not child or parent == child:
            raise CalibrationError(f"{names}: two names are needed")
        matrix = np.array(parent_from_child, np.float64)
        with self._lock:
            if child in self._newest_ancestors(parent):
                raise CalibrationError(f"{names} closes a circle")
            if stamp_ns is None:
                self._moving.pop(child, None)
                self._fixed[child] = (parent, matrix)
            elif child in self._fixed:
                raise CalibrationError(f"{names} moves a frame that is fixed, in /tf_static")
            else:
                track = self._moving.setdefault(child, _Track(child))
                if self._history_ns is not None:
                    track.forget(stamp_ns, self._history_ns)
                track.add(stamp_ns, parent, matrix)

    def lookup(self, target: str, source: str, stamp_ns: int | None = None) -> np.ndarray:
        """The 4x4 `target_from_source`; `stamp_ns` isn't needed where nothing on the way moves.

        Raises:
            CalibrationError: a frame is unknown, nothing joins the two, or something on the way
                moves and isn't known for this time: says which frames, and for which time they
                are known.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        with self._lock:
            ups, above_source = self._chain(source, stamp_ns)
            downs, above_target = self._chain(target, stamp_ns)
            common = next((name for name in ups if name in downs), None)
            if common is None:
                reason = above_source or above_target or self._why_apart(target, source)
                raise CalibrationError(
                    f"no transform from {_quoted(source)} to {_quoted(target)}: {reason}"
                )
        matrix: np.ndarray = np.linalg.inv(downs[common]) @ ups[common]
        return matrix

    def forget(self, child: str) -> None:
        """Forget where a frame was, if it moves."""
        with self._lock:
            self._moving.pop(child.lstrip("/"), None)

    def ancestors(self, frame: str, stamp_ns: int | None = None) -> list[str]:
        """The frames above one at a time, nearest first, as far as they are known for it."""
        frame = frame.lstrip("/")
        with self._lock:
            return list(self._chain(frame, stamp_ns)[0])[1:]

    def moves(self, frame: str) -> bool:
        """Whether a frame's place is given by stamps, as `/tf` does it, not for good.

        >>> TransformBuffer().moves("base")
        False
        """
        with self._lock:
            return frame.lstrip("/") in self._moving

    def _newest_ancestors(self, frame: str) -> set[str]:
        """`frame` and the frames above it, as they were last."""
        names = set[str]()
        while frame not in names:
            names.add(frame)
            if frame in self._fixed:
                frame = self._fixed[frame][0]
            elif frame in self._moving:
                frame = self._moving[frame].newest_parent
        return names

    def _chain(self, frame: str, stamp_ns: int | None) -> tuple[dict[str, np.ndarray], str]:
        """`ancestor_from_frame` of `frame` and the frames above it at a time, nearest first.

        Ends below a frame whose place isn't known for this time: the second value says why.
        """
        matrix = np.eye(4)
        chain = {frame: matrix}
        while frame in self._fixed or frame in self._moving:
            try:
                parent, step = self._fixed.get(frame) or self._moving[frame].at(stamp_ns)
            except CalibrationError as error:
                return chain, str(error)
            if parent in chain:  # two frames have changed places meanwhile
                return chain, f"{_quoted(frame)} and {_quoted(parent)} close a circle"
            frame, matrix = parent, step @ matrix
            chain[frame] = matrix
        return chain, ""

    def _why_apart(self, target: str, source: str) -> str:
        known = self._known_frames()
        missing = [_quoted(name) for name in (target, source) if name not in known]
        reason = f"{' and '.join(missing)} unknown" if missing else "nothing joins them"
        return f"{reason}; known frames: {listed(known)}"

    def _known_frames(self) -> list[str]:
        parents = {parent for parent, _ in self._fixed.values()}
        parents |= {track.newest_parent for track in self._moving.values()}
        return sorted(parents | self._fixed.keys() | self._moving.keys())


def interpolated(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """The rigid transform a share (0 to 1) of the way from one 4x4 to another.

    Translations go in a straight line, rotations about one axis (slerp).

    >>> turn = np.eye(4)
    >>> turn[:2, :2] = [[0, -1], [1, 0]]
    >>> interpolated(np.eye(4), turn, 0.5)[:2, 0].round(4).tolist()
    [0.7071, 0.7071]
    """
    vector, _ = cv2.Rodrigues(first[:3, :3].T @ second[:3, :3])
    matrix = np.eye(4)
    matrix[:3, :3] = first[:3, :3] @ cv2.Rodrigues(share * vector)[0]
    matrix[:3, 3] = (1 - share) * first[:3, 3] + share * second[:3, 3]
    return matrix


def _seconds(stamp_ns: int) -> str:
    second, nanosecond = divmod(stamp_ns, 10**9)
    return f"{second}.{nanosecond:09d}"


def _quoted(name: str) -> str:
    return repr(shown(name))
