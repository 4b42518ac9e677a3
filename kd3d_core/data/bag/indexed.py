"""Opens the files of a bag by their index, with rosbags' readers made patient and careful.

By itself, rosbags gives up a whole bag for one channel with a schema or a profile that it doesn't
know, and believes what files say about sizes and counts. Here, such channels are listed like all
others, and an index that can't be right is refused: the file is scanned then.
"""

import os
import struct
from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO

from rosbags.interfaces import Connection, MessageDefinition, Qos
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1Error
from rosbags.rosbag2 import ReaderError, storage_mcap
from rosbags.rosbag2.storage_mcap import McapReader, Schema

from kd3d_core.data.bag.parts import Contents, Part
from kd3d_core.data.bag.scan_mcap import McapParts
from kd3d_core.data.bag.scan_ros1 import Ros1Parts
from kd3d_core.data.bag.scan_sqlite import connect, read_connections
from kd3d_core.data.bag.topics import parsed_qos
from kd3d_core.data.bag.types import NO_DEFINITION, definition_of

_FOOTER_BYTES = 37  # with the magic bytes behind it
_SUMMARY_BYTES = 2**26
_NO_CHUNKS, _NO_STAMPS = "it has no index of chunks", "it has no index of its stamps"
UNINDEXED = (_NO_CHUNKS, _NO_STAMPS)
"""Reasons that are no damage."""


class _McapFile(BufferedReader):
    """A file that says it is of ROS 2, and from which a damaged length reads no more than there is.

    The profile of the header is a hint of MCAP's; each channel says for itself what it is.
    """

    _PROFILE_AT, _PROFILE = 17, b"\x04\0\0\0ros2"

    def __init__(self, path: Path) -> None:
        super().__init__(FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(None if size is None else min(size, self._size))
        if start == self._PROFILE_AT and len(data) >= len(self._PROFILE):
            return self._PROFILE + data[len(self._PROFILE) :]
        return data


class _McapIndex(McapReader):
    """The index of an MCAP file, once it has been found to be right."""

    def _open(self) -> None:
        assert self.bio is not None
        self.bio.close()
        self.bio = _McapFile(Path(str(self.path)))
        super()._open()
        if not self.chunks and self.metadata.message_count:
            raise ReaderError(_NO_CHUNKS)
        counts = [connection.msgcount for connection in self.connections]
        if sum(counts) != self.metadata.message_count:
            raise ReaderError("the counts in its index contradict each other")
        if max([0, *counts]) > self.path.stat().st_size:
            raise ReaderError("its index counts more messages than it has bytes")
        keys = {connection.id for connection in self.connections}
        for chunk in self.chunks:
            is_indexed = chunk.message_index_offsets or not chunk.message_end_time
            if not is_indexed or not chunk.message_index_offsets.keys() <= keys:
                raise ReaderError(_NO_CHUNKS)
            self.bio.seek(chunk.chunk_start_offset)
            said = chunk.chunk_length - 9, chunk.message_start_time, chunk.message_end_time
            head = struct.pack("<BQQQQ", 6, *said, chunk.uncompressed_size)
            if self.bio.read(len(head)) != head:
                raise ReaderError("a chunk isn't where its index says")

    def read_index(self) -> None:
        """Read it, if it is what the recorder made a checksum of."""
        assert self.bio is not None
        self.bio.seek(-_FOOTER_BYTES, os.SEEK_END)
        end = self.bio.tell() + 25
        (checksum,) = struct.unpack("<I", self.bio.read(_FOOTER_BYTES)[25:29])
        self.bio.seek(self.data_end)
        size = end - self.data_end
        if checksum and size <= _SUMMARY_BYTES and crc32(self.bio.read(size)) != checksum:
            raise ReaderError("the checksum of its index is wrong")
        super().read_index()

    def meta_scan(self) -> None:
        raise ReaderError(_NO_CHUNKS)

    def contents(self) -> Contents:
        return Contents(
            {connection.id: connection for connection in self.connections},
            [
                Part(
                    chunk.chunk_start_offset,
                    chunk.uncompressed_size,
                    chunk.message_start_time,
                    chunk.message_end_time,
                    frozenset(chunk.message_index_offsets),
                )
                for chunk in self.chunks
                if chunk.message_index_offsets
            ],
            Counter({connection.id: connection.msgcount for connection in self.connections}),
        )


def mcap_reader(file: Path) -> McapParts:
    """By its index; an error if that is missing or wrong. The next two do so, too."""
    index = _McapIndex(file)
    index.open()
    try:
        return McapParts(file, index.contents())
    finally:
        index.close()


class SqliteIndexed:
    """A database read by its index of stamps; has what `PartsReader` has."""

    def __init__(self, path: Path) -> None:
        self._database = connect(path)
        try:
            counts = dict(self._rows("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
            connections = read_connections(self._database, counts)
            ((first, last),) = self._rows("SELECT MIN(timestamp), MAX(timestamp) FROM messages")
            if not counts.keys() <= {connection.id for connection in connections}:
                raise ReaderError("it has messages of no topic")
            self._index = self._find_index()
        except BaseException:
            self._database.close()
            raise
        self.connections = [connection._replace(owner=self) for connection in connections]
        self.start_ns, self.end_ns = (2**63 - 1, -1) if first is None else (int(first), int(last))

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """As `PartsReader.messages`."""
        wanted = {connection.id: connection for connection in connections}
        rows = self._database.execute(
            f'SELECT topic_id, timestamp, data FROM messages INDEXED BY "{self._index}" '
            "WHERE timestamp >= ? AND timestamp < ? ORDER BY timestamp",
            (self.start_ns if start is None else start, self.end_ns + 1 if stop is None else stop),
        )
        for key, stamp, data in rows:
            if key in wanted:
                yield wanted[key], stamp, data

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _find_index(self) -> str:
        """By which messages can be had in order without sorting all of them."""
        for _, name, *_ in self._rows("PRAGMA index_list(messages)"):
            columns = [row[2] for row in self._database.execute(
                "SELECT * FROM pragma_index_info(?)", (name,)
            )]  # fmt: skip
            if columns[:1] == ["timestamp"] and '"' not in name:
                return str(name)
        raise ReaderError(_NO_STAMPS)

    def _rows(self, query: str) -> list[Any]:
        return list(self._database.execute(query))


def ros1_reader(file: Path) -> Ros1Parts:
    """By its index of chunks, which must agree with that of messages."""
    reader = Ros1Reader(file)
    reader.open()
    try:
        said: dict[int, list[tuple[int, int]]] = {chunk.pos: [] for chunk in reader.chunk_infos}
        for key, entries in reader.indexes.items():
            for entry in entries:
                said[entry.chunk_pos].append((key, entry.time))
        contents = Contents({connection.id: connection for connection in reader.connections})
        for chunk in reader.chunk_infos:
            stamps = [stamp for _, stamp in said[chunk.pos]]
            counts = Counter(key for key, _ in said[chunk.pos])
            if counts != Counter(chunk.connection_counts) or (
                stamps and (chunk.start_time, chunk.end_time - 1) != (min(stamps), max(stamps))
            ):
                raise Ros1Error("its index contradicts itself")
            contents.add(chunk.pos, None, said[chunk.pos])
    finally:
        reader.close()
    return Ros1Parts(file, contents)


# What rosbags reads MCAP and ROS 1 files with.


def _text(bio: BinaryIO) -> str:
    """A string; schemas of other kinds need not be text."""
    return storage_mcap.read_bytes(bio).decode(errors="replace")


def _schema_definition(schema: Schema | None) -> MessageDefinition:
    return NO_DEFINITION if schema is None else definition_of(schema.encoding, schema.data)


def _channel_qos(metadata: bytes) -> list[Qos]:
    file = BytesIO(metadata)
    while file.tell() < len(metadata):
        if _text(file) == "offered_qos_profiles":
            return parsed_qos(_text(file))
        _text(file)
    return []


storage_mcap.read_string = _text
storage_mcap.get_msgdef = _schema_definition
storage_mcap.get_qos = _channel_qos
