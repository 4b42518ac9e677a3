"""Reads bags."""

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from heapq import merge
from pathlib import Path
from typing import Any

from rosbags.convert.converter import is_same_wireformat, migrate_bytes
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from kd3d_core.data.bag.compression import is_zstd, unzstd
from kd3d_core.data.bag.storage import BagFile, explained, open_files
from kd3d_core.data.bag.topics import Topic, foreign_reason, recorded_qos, ros2_type
from kd3d_core.data.bag.types import bag_typestore, typestore
from kd3d_core.errors import DataError, first_line, listed, shown
from kd3d_core.messages.clouds import CloudUnits, find_units, make_cloud, read_columns
from kd3d_core.messages.decode import decode
from kd3d_core.messages.types import HEADER, Message, PointCloud

_CLOUDS = 8
"""That are looked at to find the units of a topic."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawMessage:
    """A message as it was recorded, in CDR.

    `damage` says why `data` can't be had and is empty; it is empty itself if all is well.
    """

    topic: str
    type: str
    stamp_ns: int
    data: bytes
    damage: str = ""


class BagReader:
    """Reads a rosbag2 folder, `.mcap`, `.db3` or `.bag` file; a context manager.

    Attributes:
        topics: name to `Topic`.
        foreign: topics without ROS 2 messages, which aren't read: why not, and how many messages.
        start_ns, end_ns: stamps of the first and the last message.

    Raises:
        DataError: the bag is missing, not understood, or nothing of it can be read.
    """

    def __init__(self, path: Path | str, unpacked: Path | None = None) -> None:
        """
        Args:
            path: of the bag.
            unpacked: folder in which its compressed files are unpacked once, for all readers that
                are given it; None: each for itself, until it is closed.
        """
        self.path, self.unpacked = Path(path).expanduser(), unpacked
        self.topics: dict[str, Topic] = {}
        self.foreign: dict[str, tuple[str, int]] = {}
        self._definitions: dict[str, MessageDefinition] = {}
        self._stores: dict[str, Typestore] = {}
        self._cloud_units: dict[str, CloudUnits] = {}
        self._from_ros1: dict[str, Callable[[bytes], memoryview]] = {}
        self._stack = ExitStack()
        try:
            self._files, self._faults = open_files(self.path, self._stack, unpacked)
            for file in self._files:
                for connection in file.storage.connections:
                    self._add(connection, isinstance(connection.ext, ConnectionExtRosbag1))
        except BaseException:
            self._stack.close()
            raise
        empty = not any(topic.count for topic in self.topics.values())
        self.start_ns = 0 if empty else min(file.storage.start_ns for file in self._files)
        self.end_ns = 0 if empty else max(file.storage.end_ns for file in self._files)
        self._has_given = False
        if self.stopped is not None:
            _log.warning("%s", self.stopped)

    def _add(self, connection: Connection, is_ros1: bool) -> None:
        name, count = connection.topic, connection.msgcount
        type_name = ros2_type(connection.msgtype)
        reason = foreign_reason(connection)
        if not reason and is_ros1 and type_name not in self._from_ros1:
            try:
                store = bag_typestore(connection.msgtype, connection.msgdef)
                if store is None:
                    raise DataError(f"the definition of {shown(type_name)} isn't understood")
                self._from_ros1[type_name] = _ros1_converter(store, connection.msgtype)
            except DataError as error:
                reason = str(error)
        if reason:
            _, before = self.foreign.get(name, ("", 0))
            self.foreign[name] = reason, before + count
            return
        if not is_ros1 and connection.msgdef.format != MessageDefinitionFormat.NONE:
            self._definitions.setdefault(type_name, connection.msgdef)
        before = self.topics[name].count if name in self.topics else 0
        self.topics[name] = Topic(name, type_name, before + count, recorded_qos(connection))

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files."""
        self._stack.close()
        self._files = []

    @property
    def stopped(self) -> str | None:
        """Where and why messages end before the recording does, in each damaged file.

        None while nothing is known to be lacking. What a crash cut off is known from the start;
        damage in the middle of a file only once `messages` has come there.
        """
        stops = [*self._faults, *(file.stopped for file in self._files if file.stopped)]
        return "; ".join(stops) or None

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last message."""
        return (self.end_ns - self.start_ns) / 1e9

    def messages(
        self,
        topics: Collection[str] | None = None,
        start_ns: int | None = None,
        stop_ns: int | None = None,
    ) -> Iterator[RawMessage]:
        """Messages in the order of their stamps, damaged ones among them.

        Those from `start_ns` on and before `stop_ns`, of some or all topics. Damage ends those of
        its file, with a warning and a word in `stopped`. `DataError` if a topic isn't in the bag,
        or damage comes before any message.
        """
        assert self._files, "the bag is closed"
        for name in topics or ():
            if name not in self.topics:
                reason = f" is left out, {self.foreign[name][0]}" if name in self.foreign else ""
                there = f"{self.path}: topic {shown(name)}" + (reason or " isn't in it")
                raise DataError(f"{there}; it has {listed(self.topics)}")
        streams = []
        for file in self._files:
            connections = [
                connection
                for connection in file.storage.connections
                if connection.topic in self.topics
                and (topics is None or connection.topic in topics)
                and not foreign_reason(connection)
            ]
            if connections:
                streams.append(self._until_damage(file, connections, start_ns, stop_ns))
        for connection, stamp_ns, raw in merge(*streams, key=lambda item: item[1]):
            type_name, damage = ros2_type(connection.msgtype), ""
            try:
                data = self._as_cdr(type_name, raw)
            except Exception as error:  # rosbags' conversions raise many kinds
                data, damage = b"", first_line(error)
            yield RawMessage(connection.topic, type_name, stamp_ns, data, damage)

    def _until_damage(
        self,
        file: BagFile,
        connections: list[Connection],
        start_ns: int | None,
        stop_ns: int | None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        try:
            with explained(file.path):
                for item in file.messages(connections, start_ns, stop_ns):
                    self._has_given = True
                    yield item
        except DataError as error:
            if not self._has_given:
                raise
            file.stopped = file.stopped or f"{error}; what comes behind it isn't read"

    def decode(self, message: RawMessage) -> Message:
        """kd3d's message for a raw one; `DataError` names bag, topic, stamp and what is wrong."""
        try:
            if message.damage:
                raise DataError(message.damage)
            decoded = self._deserialized(message)
            if message.type == PointCloud.ros_type:
                return make_cloud(read_columns(decoded), self.cloud_units(message.topic))
            return decode(decoded, message.type)
        except Exception as error:
            raise DataError(
                f"{self.path}: the message on {shown(message.topic)} at {message.stamp_ns} cannot "
                f"be used: {first_line(error)}"
            ) from error

    def cloud_units(self, topic: str) -> CloudUnits:
        """The units of a topic's clouds, found in some from its beginning to its end, and kept."""
        if topic not in self._cloud_units:
            columns = []
            for number in range(_CLOUDS):
                start_ns = self.start_ns + (self.end_ns - self.start_ns) * number // _CLOUDS
                raw = next(self.messages((topic,), start_ns), None)
                with suppress(Exception):  # which decoding it says
                    columns += [read_columns(self._deserialized(raw))] if raw else []
            self._cloud_units[topic] = find_units(columns)
        return self._cloud_units[topic]

    def _deserialized(self, message: RawMessage) -> Any:
        data = memoryview(message.data)  # which rosbags cuts off a piece of without copying
        return self._store(message.type).deserialize_cdr(data, message.type)

    def _store(self, type_name: str) -> Typestore:
        """Definitions of the bag itself, as they were when it was recorded, or this machine's."""
        if type_name not in self._stores:
            definition = self._definitions.get(type_name)
            store = None if definition is None else bag_typestore(type_name, definition)
            self._stores[type_name] = store or typestore((type_name,))
        return self._stores[type_name]

    def _as_cdr(self, type_name: str, data: bytes) -> bytes:
        if self._from_ros1:
            return bytes(self._from_ros1[type_name](data))
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise DataError("a message isn't bytes")
        return unzstd(data) if is_zstd(data) else bytes(data)


def _ros1_converter(source: Typestore, name: str) -> Callable[[bytes], memoryview]:
    """From ROS 1's bytes to CDR; field by field where ROS 2 has changed the message."""
    try:
        target = typestore((name,))
    except DataError:  # a type of the bag's own: as it is, but for the header's `seq`
        target = get_typestore(Stores.EMPTY)
        target.register(source.fielddefs | {HEADER: typestore((HEADER,)).fielddefs[HEADER]})
    if is_same_wireformat(source, target, name, name):
        return partial(target.ros1_to_cdr, typename=name)
    return partial(migrate_bytes, source, target, name, name, {}, src_is2=False, dst_is2=True)
