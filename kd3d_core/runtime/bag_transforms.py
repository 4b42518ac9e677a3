"""Where the frames of a bag are: its `/tf_static`, `/tf` and odometry, along with its time."""

import logging
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagReader, RawMessage
from kd3d_core.data.bag.choice import topics_of
from kd3d_core.errors import CalibrationError, DataError, Once, listed, shown
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.messages.types import Message, Odometry, Transform, Transforms

_HISTORY_NS = 10 * 10**9
_LOOK_AHEAD_NS = 10**9

_log = logging.getLogger(__name__)


class BagTransforms:
    """Transforms of a bag; a context manager.

    `/tf_static` is read at once: whichever comes later in the bag than what is looked up, a node
    would have waited for it. `/tf` and odometry are read along with the bag, a second ahead, and
    10 s of them are kept; where they don't help, frames that have one and the same pose in all of
    `/tf` are taken for fixed. What `/tf` says of a frame counts for more than odometry.

    Attributes:
        buffer: what the bag has said of its frames so far.
    """

    def __init__(self, path: Path, by_record: bool = False, unpacked: Path | None = None) -> None:
        """
        Args:
            path: the bag.
            by_record: whether stamps are the times when messages were recorded, not their headers'.
            unpacked: as `BagReader` has it.

        Raises:
            DataError: the bag can't be read.
        """
        self._by_record = by_record
        self.buffer = TransformBuffer(_HISTORY_NS)
        self._reader = BagReader(path, unpacked)
        names = topics_of(self._reader, Transforms)
        self._static_topics = [name for name in names if name.endswith("tf_static")]
        self._static = deque(self._read(self._static_topics))
        self._tf_topics = [name for name in names if name not in self._static_topics]
        self._moving_topics = self._tf_topics + topics_of(self._reader, Odometry)
        self._moving: Iterator[tuple[int, str, Transform]] = iter(())
        self._next: tuple[int, str, Transform] | None = None
        self._followed_ns: int | None = None
        self._unmoved: set[str] | None = None
        self._told_by: dict[str, str] = {}
        self._warn_once = Once(lambda text: _log.warning("%s: TF: %s", self._reader.path, text))

    def __enter__(self) -> "BagTransforms":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag."""
        self._reader.close()

    def follow(self, recorded_ns: int) -> None:
        """Learn the fixed transforms up to a time of the bag, and the moving ones around it."""
        self.learn_static(recorded_ns)
        before_ns = self._followed_ns
        if before_ns is None or abs(recorded_ns - before_ns) > _HISTORY_NS - _LOOK_AHEAD_NS:
            self._moving = self._read(self._moving_topics, max(recorded_ns - _HISTORY_NS, 0))
            self._next = next(self._moving, None)
            before_ns = recorded_ns
        self._followed_ns = max(recorded_ns, before_ns)
        while self._next is not None and self._next[0] <= recorded_ns + _LOOK_AHEAD_NS:
            at_ns, topic, found = self._next
            if found.child not in (self._unmoved or ()) and self._is_first_choice(topic, found):
                is_stamped = found.stamp_ns and not self._by_record
                self._learn(found, found.stamp_ns if is_stamped else at_ns)
            self._next = next(self._moving, None)

    def learn_static(self, recorded_ns: int) -> None:
        """Learn the fixed transforms up to a time of the bag."""
        while self._static and self._static[0][0] <= recorded_ns:
            self._learn(self._static.popleft()[2], None)

    def learn_more(self, of_moving: bool = True) -> bool:
        """Learn what doesn't belong to this time but may help; False if there is nothing left.

        That is the next one of `/tf_static`, then the frames that `/tf` never moves, if asked for.
        """
        if self._static:
            self._learn(self._static.popleft()[2], None)
            return True
        if of_moving and self._unmoved is None:
            self._unmoved = self._fix_unmoved()
            return True
        return False

    def lookup(self, target: str, source: str, stamp_ns: int, recorded_ns: int) -> np.ndarray:
        """The 4x4 `target_from_source` at a stamp.

        Args:
            recorded_ns: the bag's time of the message that has this stamp.

        Raises:
            CalibrationError: as `TransformBuffer.lookup`.
            DataError: the bag is damaged.
        """
        self.follow(recorded_ns)
        while True:
            try:
                return self.buffer.lookup(target, source, stamp_ns)
            except CalibrationError:
                if not self.learn_more():
                    raise

    def steady_pose(self, frame: str, stamp_ns: int, recorded_ns: int) -> np.ndarray | None:
        """Where a frame is in the steady one above it: the 4x4 `steady_from_frame`.

        None where nothing moves it, or where that isn't known for this time.

        Args:
            recorded_ns: as for `lookup`, whose errors these are, too.
        """
        self.follow(recorded_ns)
        frame = frame.lstrip("/")
        chain = [frame, *self.buffer.ancestors(frame, stamp_ns)]
        if not any(map(self.buffer.moves, chain)):
            return None
        try:
            return self.lookup(steady_frame(chain), frame, stamp_ns, recorded_ns)
        except CalibrationError:
            return None

    def require_path(self, target: str, source: str) -> None:
        """Refuse two frames that nothing in the bag joins, whatever the time.

        Raises:
            CalibrationError: says which frames the bag joins, and what else to do.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        trees: dict[str, set[str]] = {}  # of each frame, those joined to it and itself
        pairs: set[tuple[str, str]] = set()

        def joined() -> bool:
            return source in trees.get(target, {target})

        for _, _, found in chain(self._read(self._static_topics), self._read(self._moving_topics)):
            pair = found.parent.lstrip("/"), found.child.lstrip("/")
            if pair not in pairs:
                pairs.add(pair)
                tree = set.union(*(trees.get(name, {name}) for name in pair))
                trees.update(dict.fromkeys(tree, tree))
            if joined():
                return
        if not joined():
            given = [f"{shown(parent)} -> {shown(child)}" for parent, child in sorted(pairs)]
            raise CalibrationError(
                f"{self._reader.path}: no transform leads from the camera's frame "
                f"{shown(source)!r} to the LiDAR's {shown(target)!r}; /tf_static, /tf and odometry "
                f"have {listed(given)}: give a file with --extrinsics"
            )

    def _is_first_choice(self, topic: str, found: Transform) -> bool:
        """Whether this topic says where a frame is: `/tf`, else the first odometry that does."""
        before = self._told_by.setdefault(found.child, topic)
        if before != topic and topic in self._tf_topics and before not in self._tf_topics:
            self.buffer.forget(found.child)
            self._told_by[found.child] = before = topic
        return before == topic or topic in self._tf_topics

    def _fix_unmoved(self) -> set[str]:
        """Take frames for fixed that have one pose in all of `/tf`; their names."""
        first: dict[str, Transform] = {}
        moved = set()
        for _, _, found in self._read(self._tf_topics):
            known = first.setdefault(found.child, found)
            if found.parent != known.parent or not np.array_equal(
                found.parent_from_child, known.parent_from_child
            ):
                moved.add(found.child)
        unmoved = first.keys() - moved
        for child in unmoved:
            self._learn(first[child], None)
        if unmoved:
            what = self._reader.path, listed(sorted(unmoved))
            _log.warning("%s: /tf has one pose only, which is taken for fixed, of %s", *what)
        return set(unmoved)

    def _read(
        self, topics: list[str], start_ns: int | None = None
    ) -> Iterator[tuple[int, str, Transform]]:
        """When transforms were recorded, their topics, and the transforms."""
        for raw, message in decoded(self._reader, *topics, start_ns=start_ns):
            if isinstance(message, Odometry):
                yield raw.stamp_ns, raw.topic, message.transform
            elif isinstance(message, Transforms):
                for transform in message.transforms:
                    yield raw.stamp_ns, raw.topic, transform

    def _learn(self, found: Transform, stamp_ns: int | None) -> None:
        try:
            self.buffer.add(found.parent, found.child, found.parent_from_child, stamp_ns)
        except CalibrationError as error:
            self._warn_once(str(error))


def steady_frame(chain: list[str]) -> str:
    """Of a frame and those above it, the one in which it moves without jumps.

    REP 105: in `odom` a robot moves continuously; in the frames above it, it jumps when it finds
    out where it is.

    >>> steady_frame(["camera", "base_link", "odom", "map"]), steady_frame(["camera", "world"])
    ('odom', 'world')
    """
    named = [name for name in chain if name.rpartition("/")[2].endswith("odom")]
    return named[0] if named else chain[-1]


def decoded(
    reader: BagReader, *topics: str, start_ns: int | None = None
) -> Iterator[tuple[RawMessage, Message]]:
    """Messages as they were recorded and what they say; warns of damaged ones."""
    for raw in reader.messages(topics, start_ns) if topics else ():
        try:
            yield raw, reader.decode(raw)
        except DataError as error:
            _log.warning("%s is left out: %s", shown(raw.topic), error)
