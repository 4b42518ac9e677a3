"""MCAP files without an index, or with a wrong one (mcap.dev/spec, version 0).

The format is append-only: records of an opcode, a length and a body, of which a chunk holds others,
compressed and with a checksum where the recorder made one. Of a chunk that is cut off, the messages
in front of the cut are read.
"""

import struct
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition
from rosbags.rosbag2 import ReaderError

from kd3d_core.data.bag.compression import MAX_BYTES, unpack, unpack_start
from kd3d_core.data.bag.parts import (
    PART_BYTES,
    Contents,
    DamageError,
    Part,
    PartsReader,
    damage_behind,
)
from kd3d_core.data.bag.topics import parsed_qos
from kd3d_core.data.bag.types import NO_DEFINITION, definition_of
from kd3d_core.errors import DataError

_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 1, 2, 3, 4, 5, 6, 15
_SKIPPED = range(7, 15)  # indexes, attachments, metadata
_PRIVATE = 128  # opcodes of applications' own begin here
_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_SCHEMA_BYTES, _NAME_BYTES = 2**24, 16


class McapParts(PartsReader):
    """An MCAP file read by chunks, and by runs of messages that are in none."""

    def __init__(self, path: Path, contents: Contents) -> None:
        super().__init__(path, contents)
        self._file = path.open("rb")

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def scan(path: Path) -> Contents:
        with path.open("rb") as file:
            return _Scanner(file, path.stat().st_size).run()

    def read(self, part: Part) -> Iterator[tuple[int, int, bytes]]:
        assert part.size is not None
        self._file.seek(part.place)
        if self._file.peek(1)[:1] == bytes([_CHUNK]):
            content, fault = _unpacked(_read_chunk(self._file, part.place))
        else:
            content, fault = self._file.read(part.size), ""
        for op, body in _records(content[: part.size]):
            if op == _MESSAGE:
                key, stamp = _key_and_stamp(body)
                part.check(key, stamp)
                yield key, stamp, bytes(body[_MESSAGE_HEAD.size :])
            elif op not in (_SCHEMA, _CHANNEL):
                raise DamageError(f"in a chunk there is a record of kind {op}")
        if len(content) < part.size:
            raise DamageError(fault or "a chunk is shorter than its index says")


class _Scanner:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._found = Contents()
        self._schemas: dict[int, tuple[str, MessageDefinition]] = {}
        # A run of messages outside of chunks, so far.
        self._run_place, self._run_end = 0, 0
        self._run: list[tuple[int, int]] = []

    def run(self) -> Contents:
        if self._file.read(len(_MAGIC)) != _MAGIC:
            raise ReaderError("it doesn't begin as an MCAP file does")
        place = len(_MAGIC)
        try:
            while True:
                self._file.seek(place)
                head = self._file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise DamageError("it ends without MCAP's footer")
                op, length = _HEAD.unpack(head)
                if op in (_DATA_END, _FOOTER):
                    break
                self._record(op, place, length)
                if place + _HEAD.size + length > self._size:
                    raise DamageError("a record is cut off")
                place += _HEAD.size + length
        except DamageError as damage:
            self._found.stopped = f"byte {place} of {self._size}: {damage}"
        self._end_run()
        return self._found

    def _record(self, op: int, place: int, length: int) -> None:
        start = place + _HEAD.size
        if op == _MESSAGE:
            if length < _MESSAGE_HEAD.size or length > MAX_BYTES or start + length > self._size:
                raise DamageError("a message is cut off or its length is wrong")
            self._message(place, start + length, self._file.read(_MESSAGE_HEAD.size))
        elif op == _CHUNK:
            self._end_run()
            self._in_chunk(place)
        elif op in (_SCHEMA, _CHANNEL):
            if length > _SCHEMA_BYTES or start + length > self._size:
                raise DamageError("a schema or channel is cut off or its length is wrong")
            self._define(op, memoryview(self._file.read(length)))
        elif not (op == _HEADER or op in _SKIPPED or op >= _PRIVATE):
            raise DamageError(f"there is no record of kind {op}")

    def _message(self, place: int, end: int, head: bytes) -> None:
        if place != self._run_end or end - self._run_place > PART_BYTES:
            self._end_run()
            self._run_place = place
        self._run.append(self._known(head))
        self._run_end = end

    def _end_run(self) -> None:
        self._found.add(self._run_place, self._run_end - self._run_place, self._run)
        self._run_end, self._run = 0, []

    def _in_chunk(self, place: int) -> None:
        content, fault = _unpacked(_read_chunk(self._file, place))
        sound, messages = 0, []
        try:
            for op, body in _records(content):
                if op == _MESSAGE:
                    messages.append(self._known(body))
                elif op in (_SCHEMA, _CHANNEL):
                    self._define(op, body)
                else:
                    raise DamageError(f"in a chunk there is no record of kind {op}")
                sound += _HEAD.size + len(body)
        except DamageError as damage:
            fault = fault or str(damage)
        self._found.add(place, sound, messages)
        if fault:
            raise DamageError(damage_behind(fault, len(messages)))

    def _known(self, head: bytes | memoryview) -> tuple[int, int]:
        key, stamp = _key_and_stamp(head)
        if key not in self._found.connections:
            raise DamageError(f"a message is of channel {key}, which there isn't")
        return key, stamp

    def _define(self, op: int, body: memoryview) -> None:
        try:
            if op == _SCHEMA:
                (key,) = struct.unpack_from("<H", body)
                name, rest = _text(body[2:])
                encoding, rest = _text(rest)
                text, _ = _text(rest)
                self._schemas[key] = name, definition_of(encoding, text)
                return
            key, schema = struct.unpack_from("<HH", body)
            topic, rest = _text(body[4:])
            encoding, rest = _text(rest)
            metadata = _texts(rest)
        except struct.error:
            raise DamageError("a schema or channel contradicts itself") from None
        kind, definition = self._schemas.get(schema, ("__schemaless__", NO_DEFINITION))
        qos = parsed_qos(metadata.get("offered_qos_profiles", ""))
        ext = ConnectionExtRosbag2(encoding, qos)
        self._found.connections.setdefault(
            key, Connection(key, topic, kind, definition, "", 0, ext, None)
        )


@dataclass(frozen=True)
class _Chunk:
    """A chunk as it lies in the file; `packed` is shorter than `packed_size` if it is cut off."""

    compression: str
    packed: bytes
    packed_size: int
    size: int
    checksum: int


def _read_chunk(file: BinaryIO, place: int) -> _Chunk:
    file.seek(place)
    try:
        _, length = _HEAD.unpack(file.read(_HEAD.size))
        end = file.tell() + length
        _, _, size, checksum = _CHUNK_HEAD.unpack(file.read(_CHUNK_HEAD.size))
        (name_size,) = struct.unpack("<I", file.read(4))
        name = file.read(min(name_size, _NAME_BYTES)).decode(errors="replace")
        (packed_size,) = struct.unpack("<Q", file.read(8))
    except struct.error:
        raise DamageError("a chunk is cut off") from None
    if name_size > _NAME_BYTES or packed_size > MAX_BYTES or file.tell() + packed_size > end:
        raise DamageError("the lengths of a chunk contradict each other")
    return _Chunk(name, file.read(packed_size), packed_size, size, checksum)


def _unpacked(chunk: _Chunk) -> tuple[bytes, str]:
    """The records of a chunk, and why not all of them can be had; empty if they can."""
    if len(chunk.packed) < chunk.packed_size:
        return unpack_start(chunk.compression, chunk.packed), "a chunk is cut off"
    try:
        content = unpack(chunk.compression, chunk.packed, min(chunk.size, MAX_BYTES))
    except DataError as error:
        return b"", f"in a chunk, {error}"
    if len(content) != chunk.size or (chunk.checksum and crc32(content) != chunk.checksum):
        return b"", "the checksum or size of a chunk is wrong"
    return content, ""


def _key_and_stamp(message: bytes | memoryview) -> tuple[int, int]:
    """Channel and stamp of a message."""
    if len(message) < _MESSAGE_HEAD.size:
        raise DamageError("a message is too short")
    key, _, stamp, _ = _MESSAGE_HEAD.unpack_from(message)
    if stamp >= 2**63:
        raise DamageError(f"a message has the stamp {stamp}")
    return key, stamp


def _records(content: bytes) -> Iterator[tuple[int, memoryview]]:
    """Opcode and body of each record of a chunk; `DamageError` at the first that is cut off."""
    view, place = memoryview(content), 0
    while place < len(view):
        if place + _HEAD.size > len(view):
            raise DamageError("a record in a chunk is cut off")
        op, length = _HEAD.unpack_from(view, place)
        start = place + _HEAD.size
        place = start + length
        if place > len(view):
            raise DamageError("a record in a chunk is cut off")
        yield op, view[start:place]


def _text(data: memoryview) -> tuple[str, memoryview]:
    """A string, which need not be text in schemas of other kinds, and what is behind it."""
    (size,) = struct.unpack_from("<I", data)
    if 4 + size > len(data):
        raise struct.error
    return bytes(data[4 : 4 + size]).decode(errors="replace"), data[4 + size :]


def _texts(data: memoryview) -> dict[str, str]:
    """A map of strings."""
    (size,) = struct.unpack_from("<I", data)
    rest, found = data[4 : 4 + size], {}
    while len(rest):
        key, rest = _text(rest)
        found[key], rest = _text(rest)
    return found
