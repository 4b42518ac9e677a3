"""ROS 1 bags without an index: what `rosbag record` leaves (`NAME.bag.active`) when it is killed.

Records are a header of fields, then data (wiki.ros.org/Bags/Format/2.0). A chunk holds others; its
size is filled in when it is complete, so that of the last one may be 0.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag1 import ReaderError
from rosbags.rosbag1.reader import Header, RecordType, normalize
from rosbags.typesys.msg import normalize_msgtype

from kd3d_core.data.bag.compression import MAX_BYTES, unpack, unpack_start
from kd3d_core.data.bag.parts import Contents, DamageError, Part, PartsReader, damage_behind
from kd3d_core.errors import DataError, first_line

_MAGIC = re.compile(rb"#ROSBAG V2\.0\n")
_COMPRESSIONS = {"none": "", "bz2": "bz2", "lz4": "lz4"}
_HEADER_BYTES = 2**24  # of a connection's record, which holds a message definition
_END = {RecordType.CONNECTION, RecordType.CHUNK_INFO}


class Ros1Parts(PartsReader):
    """A ROS 1 bag read by its chunks alone."""

    def __init__(self, path: Path, contents: Contents) -> None:
        super().__init__(path, contents)
        self._file = path.open("rb")

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def scan(path: Path) -> Contents:
        found = Contents()
        size = path.stat().st_size
        with path.open("rb") as file:
            if not _MAGIC.fullmatch(file.read(13)):
                raise ReaderError("it doesn't begin as a ROS 1 bag does")
            place = file.tell()
            try:
                has_index = _header(file, RecordType.BAGHEADER).get_uint64("index_pos") > 0
                _skip(file, size)
                while (place := file.tell()) < size:
                    op = _op(file)
                    if op == RecordType.CHUNK:
                        _in_chunk(file, place, size, found)
                    elif op == RecordType.IDXDATA or op in _END:
                        _header(file)
                        _skip(file, size)
                    else:
                        raise DamageError("records don't belong there")
                if not has_index:
                    raise DamageError("it ends without an index")
            except (DamageError, ReaderError, ValueError) as damage:
                found.stopped = f"byte {place} of {size}: {first_line(damage).rstrip('.')}"
        return found

    def read(self, part: Part) -> Iterator[tuple[int, int, bytes]]:
        self._file.seek(part.place)
        try:
            content, fault = _chunk(self._file, self.path.stat().st_size)
            for header, data, _ in _records(content[: part.size]):
                op = header.get_uint8("op")
                if op == RecordType.MSGDATA:
                    key, stamp = header.get_uint32("conn"), header.get_time("time")
                    part.check(key, stamp)
                    yield key, stamp, data
                elif op != RecordType.CONNECTION:
                    raise DamageError("records in a chunk don't belong there")
        except (ReaderError, ValueError) as error:
            raise DamageError(first_line(error).rstrip(".")) from None
        if fault and part.size is None:
            raise DamageError(fault)


def _in_chunk(file: BinaryIO, place: int, file_size: int, found: Contents) -> None:
    content, fault = _chunk(file, file_size)
    after = file.tell()
    sound, messages = 0, []
    try:
        for header, data, end in _records(content):
            key = header.get_uint32("conn")
            if header.get_uint8("op") == RecordType.CONNECTION:
                found.connections.setdefault(key, _connection(key, header, data))
            elif header.get_uint8("op") != RecordType.MSGDATA:
                raise DamageError("records in a chunk don't belong there")
            elif key not in found.connections:
                raise DamageError(f"a message is of connection {key}, which there isn't")
            else:
                messages.append((key, header.get_time("time")))
            sound = end
    except (DamageError, ReaderError, ValueError) as damage:
        fault = fault or first_line(damage).rstrip(".")
    found.add(place, sound, messages)
    if fault:
        raise DamageError(damage_behind(fault, len(messages)))
    file.seek(after)


def _chunk(file: BinaryIO, file_size: int) -> tuple[bytes, str]:
    """The records of a chunk, and why not all of them can be had; empty if they can."""
    header = _header(file, RecordType.CHUNK)
    name = _COMPRESSIONS.get(header.get_string("compression"))
    if name is None:
        return b"", "a chunk is compressed in an unknown way"
    full_size = header.get_uint32("size")
    packed_size = _uint32(file)
    rest = file_size - file.tell()
    if full_size == 0 or packed_size > rest:
        packed = file.read(min(rest, MAX_BYTES))
        return unpack_start(name, packed), "a chunk is cut off"
    try:
        content = unpack(name, file.read(packed_size), min(full_size, MAX_BYTES))
    except DataError as error:
        return b"", f"in a chunk, {error}"
    return content, "" if len(content) == full_size else "the size of a chunk is wrong"


def _records(content: bytes) -> Iterator[tuple[Header, bytes, int]]:
    """Header, data and end of each record of a chunk; an error at the first that isn't whole."""
    file = BytesIO(content)
    while file.tell() < len(content):
        header = _header(file)
        size = _uint32(file)
        data = file.read(size)
        if len(data) < size:
            raise DamageError("a record in a chunk is cut off")
        yield header, data, file.tell()


def _header(file: BinaryIO, kind: RecordType | None = None) -> Header:
    start = file.tell()
    if _uint32(file) > _HEADER_BYTES:
        raise DamageError("a record's header is too long")
    file.seek(start)
    return Header.read(file, kind)


def _op(file: BinaryIO) -> int:
    """Kind of the record that is next."""
    start = file.tell()
    kind = _header(file).get_uint8("op")
    file.seek(start)
    return kind


def _skip(file: BinaryIO, file_size: int) -> None:
    """Go behind a record's data."""
    if file.seek(_uint32(file), 1) > file_size:
        raise DamageError("a record is cut off")


def _uint32(file: BinaryIO) -> int:
    data = file.read(4)
    if len(data) < 4:
        raise DamageError("a record is cut off")
    return int.from_bytes(data, "little")


def _connection(key: int, header: Header, data: bytes) -> Connection:
    """As rosbags makes it of an indexed bag."""
    file = BytesIO(len(data).to_bytes(4, "little") + data)
    fields = Header.read(file)
    topic = header.get_string("topic")
    if not topic:
        raise DamageError("a topic has no name")
    latching = fields.get("latching", b"") == b"1"
    definition = MessageDefinition(
        MessageDefinitionFormat.MSG, fields.get_string("message_definition")
    )
    ext = ConnectionExtRosbag1(fields.get("callerid", b"").decode(), int(latching))
    return Connection(
        key, normalize(topic), normalize_msgtype(fields.get_string("type")), definition,
        fields.get_string("md5sum"), 0, ext, None,
    )  # fmt: skip
