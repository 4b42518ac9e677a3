"""Reads bags."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from rosbags.convert.converter import is_same_wireformat, migrate_bytes
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from kd3d_core.data.bag.topics import Topic, recorded_qos, ros2_type
from kd3d_core.data.bag.types import humble_typestore, typestore
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.messages.decode import decode
from kd3d_core.messages.types import HEADER, Message

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"  # no CDR message starts so: its first byte is 0


@dataclass(frozen=True)
class RawMessage:
    """A message as it was recorded: when (nanoseconds), and its CDR bytes."""

    topic: str
    type: str
    stamp_ns: int
    data: bytes


class BagReader:
    """Reads a bag; a context manager.

    Args:
        path: rosbag2 folder, `.mcap`, `.db3` or `.bag` file.

    Attributes:
        topics: name to `Topic`.
        start_ns: stamp of the first message.
        end_ns: stamp of the last message.

    Raises:
        DataError: the bag is missing, cut off or not understood; also while messages are read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        self._from_ros1: dict[str, Callable[[bytes], memoryview]] = {}
        self._decompress = not (self.path / "metadata.yaml").is_file()
        with self._explain():
            self._reader = AnyReader(
                _storage_files(self.path), default_typestore=humble_typestore()
            )
            self._reader.open()
        self.topics: dict[str, Topic] = {}
        for connection in self._reader.connections:
            topic = Topic(
                connection.topic,
                ros2_type(connection.msgtype),
                connection.msgcount,
                recorded_qos(connection),
            )
            known = self.topics.get(topic.name)
            count = topic.count + (known.count if known else 0)
            self.topics[topic.name] = Topic(topic.name, topic.type, count, topic.qos)
        empty = not any(topic.count for topic in self.topics.values())
        self.start_ns = 0 if empty else self._reader.start_time
        self.end_ns = 0 if empty else self._reader.end_time - 1

    def __enter__(self) -> "BagReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files."""
        self._reader.close()

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
        """Messages in the order of their stamps.

        Args:
            topics: names; default: all.
            start_ns: first stamp.
            stop_ns: stamp before which to stop.

        Raises:
            DataError: a topic isn't in the bag, or the bag is damaged at this place.
        """
        for name in topics or ():
            if name not in self.topics:
                raise DataError(f"{self.path}: no topic {name}; it has {', '.join(self.topics)}")
        connections = [
            connection
            for connection in self._reader.connections
            if topics is None or connection.topic in topics
        ]
        if not connections:
            return
        stream = self._reader.messages(connections, start_ns, stop_ns)
        while True:
            with self._explain():
                item = next(stream, None)
                if item is None:
                    return
                connection, stamp_ns, data = item
                message = RawMessage(
                    connection.topic,
                    ros2_type(connection.msgtype),
                    stamp_ns,
                    self._as_cdr(connection, data),
                )
            yield message

    def decode(self, message: RawMessage) -> Message:
        """kd3d's message for a raw one.

        Raises:
            DataError: names bag, topic and stamp, and what is wrong with the message.
        """
        try:
            decoded = self._store(message.type).deserialize_cdr(message.data, message.type)
            return decode(decoded, message.type)
        except Exception as error:
            raise DataError(
                f"{self.path}: the message on {message.topic} at {message.stamp_ns} cannot be "
                f"used: {error}"
            ) from error

    def _store(self, type_name: str) -> Typestore:
        """Definitions of the bag itself; ROS 1 ones name CameraInfo's fields differently."""
        if self._reader.is2 and type_name in self._reader.typestore.fielddefs:
            return self._reader.typestore
        return typestore((type_name,))

    def _as_cdr(self, connection: Connection, data: bytes) -> bytes:
        if not self._reader.is2:
            if connection.msgtype not in self._from_ros1:
                self._from_ros1[connection.msgtype] = _ros1_converter(
                    self._reader.typestore, connection.msgtype
                )
            return bytes(self._from_ros1[connection.msgtype](data))
        if self._decompress and data[:4] == _ZSTD_MAGIC:
            return zstd.decompress(data)
        return bytes(data)

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Turn whatever rosbags and its decoders raise on bad files into one line."""
        try:
            yield
        except Kd3dError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: there is no such bag: {error}") from error
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise DataError(
                f"{self.path}: the bag is damaged or of a kind that kd3d cannot read: {reason}. "
                "If its recording was cut off, repair it with `ros2 bag reindex` or `mcap recover`"
            ) from error


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


def _storage_files(path: Path) -> list[Path]:
    """What rosbags should open: a folder that lost its metadata is read file by file."""
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        files = sorted(file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
        if not files:
            raise DataError(f"{path}: no bag: there is no metadata.yaml, .mcap or .db3 in it")
        return files
    return [path]
