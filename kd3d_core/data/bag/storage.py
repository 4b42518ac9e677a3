"""Opens the files of a bag with rosbags' readers, made patient and careful.

By itself, rosbags gives up a whole bag for one channel with a schema or a profile that it doesn't
know, and believes what files say about sizes. Here, such channels are listed like all others, and
sizes are bounded.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import apsw
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
    Qos,
)
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1Error
from rosbags.rosbag1 import reader as ros1
from rosbags.rosbag2 import ReaderError, storage_mcap
from rosbags.rosbag2.metadata import ReaderMetadata, parse_qos
from rosbags.rosbag2.storage_mcap import McapReader, Schema
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from kd3d_core.config import parse_yaml
from kd3d_core.data.bag.compression import MAX_BYTES, unbz2, unlz4, unzstd, unzstd_file
from kd3d_core.errors import ConfigError, DataError, Kd3dError, first_line, listed
from kd3d_core.files import files_in, read_text

Storage = McapReader | Sqlite3Reader | Ros1Reader
"""A file of a bag: `connections`, and `messages` of some of them in the order of their stamps."""

_METADATA_BYTES = 4_000_000  # thousands of topics and files
_QOS_BYTES = 2**16
_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}
_ADVICE = {
    ".mcap": "if its recording was cut off, mend it with `mcap recover`",
    ".db3": "if its recording was cut off, mend it with `.recover` of sqlite3",
    ".bag": "if its recording was cut off, mend it with `rosbag reindex`",
    ".yaml": "`ros2 bag reindex` writes it anew",
}


def open_storages(path: Path, stack: ExitStack) -> list[Storage]:
    """Open all files of a bag, which `stack` closes.

    `DataError` if it is missing, cut off or not understood.
    """
    storages = []
    for file in _files(path, stack):
        if file.suffix not in _READERS:
            raise DataError(f"{file}: no bag: give a rosbag2 folder, .mcap, .db3 or .bag file")
        with explained(file):
            storage = _READERS[file.suffix](file)
            storage.open()
        stack.callback(storage.close)
        storages.append(storage)
    return storages


def stamps(storage: Storage) -> tuple[int, int]:
    """Stamps of a file's first message, and one more than its last; crossed if there is none."""
    if isinstance(storage, Ros1Reader):
        return storage.start_time, storage.end_time
    return storage.metadata.start_time, storage.metadata.end_time


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn whatever rosbags and its decoders raise on bad files into one line that names `path`."""
    try:
        yield
    except Kd3dError as error:
        text = str(error)
        raise DataError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such bag") from None
    except OSError as error:
        raise DataError(f"{path}: it can't be read: {error.strerror or error}") from None
    except Exception as error:
        is_said = isinstance(error, (ReaderError, Ros1Error, apsw.Error))
        reason = first_line(error).rstrip(".") if is_said else "its records contradict each other"
        advice = _ADVICE.get(path.suffix, _ADVICE[".mcap"])
        raise DataError(f"{path}: the bag is damaged: {reason}; {advice}") from error


def _files(path: Path, stack: ExitStack) -> list[Path]:
    """A bag's files; a folder that lost its metadata has all that are in it."""
    if not path.exists():
        raise DataError(f"{path}: there is no such bag")
    if not path.is_dir():
        files = [path]
    elif (path / "metadata.yaml").is_file():
        files = _listed_files(path / "metadata.yaml")
    else:
        files = files_in(path, (".mcap", ".db3"))
        if not files:
            raise DataError(f"{path}: no bag: there is no metadata.yaml, .mcap or .db3 in it")
    if any(file.suffix == ".zstd" for file in files):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kd3d-bag-")))
        files = [unzstd_file(file, folder) if file.suffix == ".zstd" else file for file in files]
    return files


def _listed_files(metadata: Path) -> list[Path]:
    """The files that `metadata.yaml` names. All else in it is in the files, too."""
    try:
        content = parse_yaml(read_text(metadata, _METADATA_BYTES), _METADATA_BYTES)
        names = content["rosbag2_bagfile_information"]["relative_file_paths"]
        files = [metadata.parent / PurePath(name).name for name in names]
    except ConfigError as error:
        raise DataError(f"{metadata}: {error}; {_ADVICE['.yaml']}") from None
    except (TypeError, KeyError):
        raise DataError(f"{metadata}: it names no files: {_ADVICE['.yaml']}") from None
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise DataError(f"{metadata.parent}: files of the bag are missing: {listed(missing)}")
    return files


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


class _McapReader(McapReader):
    def _open(self) -> None:
        assert self.bio is not None
        self.bio.close()
        self.bio = _McapFile(Path(str(self.path)))
        super()._open()
        counts = [connection.msgcount for connection in self.connections]
        if max([self.metadata.message_count, *counts]) > self.path.stat().st_size:
            raise ReaderError("its index counts more messages than it has bytes")


class _SqliteReader(Sqlite3Reader):
    def _open(self) -> None:
        assert self.dbconn is not None
        self.dbconn.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_BYTES)
        found = self._rows("SELECT name FROM sqlite_master WHERE type='table'")
        tables = {name for (name,) in found}
        if not {"messages", "topics"} <= tables:
            raise ReaderError("it has no tables of topics and messages")
        definitions = {}
        if "message_definitions" in tables:
            definitions = {
                name: _definition(encoding, text)
                for name, encoding, text in self._rows(
                    "SELECT topic_type, encoding, encoded_message_definition "
                    "FROM message_definitions ORDER BY id DESC"
                )
            }
        columns = {row[1] for row in self._rows("PRAGMA table_info(topics)")}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        counts = dict(self._rows("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
        self.connections = [
            Connection(
                key, str(topic), str(kind), definitions.get(kind, _NONE), "", counts.get(key, 0),
                ConnectionExtRosbag2(str(encoding), _qos(str(offered))), self,
            )
            for key, topic, kind, encoding, offered in self._rows(
                f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id"
            )
        ]  # fmt: skip
        ((first, last),) = self._rows("SELECT MIN(timestamp), MAX(timestamp) FROM messages")
        start, end = (2**63 - 1, 0) if first is None else (int(first), int(last) + 1)
        total = sum(counts.values())
        self.metadata = ReaderMetadata(end - start, start, end, total, None, None, None, None)

    def _rows(self, query: str) -> list[Any]:
        assert self.dbconn is not None
        return list(self.dbconn.execute(query))


_READERS: dict[str, Callable[[Path], Storage]] = {
    ".mcap": _McapReader,
    ".db3": _SqliteReader,
    ".bag": Ros1Reader,
}

# What rosbags reads MCAP and ROS 1 files with.

_NONE = MessageDefinition(MessageDefinitionFormat.NONE, "")


def _text(bio: BinaryIO) -> str:
    """A string; schemas of other kinds need not be text."""
    return storage_mcap.read_bytes(bio).decode(errors="replace")


def _definition(encoding: str, text: str) -> MessageDefinition:
    return MessageDefinition(_FORMATS[encoding], text) if encoding in _FORMATS else _NONE


def _schema_definition(schema: Schema | None) -> MessageDefinition:
    return _NONE if schema is None else _definition(schema.encoding, schema.data)


def _channel_qos(metadata: bytes) -> list[Qos]:
    file = BytesIO(metadata)
    while file.tell() < len(metadata):
        if _text(file) == "offered_qos_profiles":
            return _qos(_text(file))
        _text(file)
    return []


def _qos(text: str) -> list[Qos]:
    """QoS profiles; none where they can't be understood, which costs no message."""
    try:
        profiles = parse_qos(text if len(text) <= _QOS_BYTES else "")
    except Exception:
        return []
    return [profile for profile in profiles if isinstance(profile.depth, int)]


def _chunk(unpack: Callable[[bytes, int], bytes]) -> Callable[[bytes, int], bytes]:
    return lambda data, size: unpack(data, min(size, MAX_BYTES))


storage_mcap.read_string = _text
storage_mcap.get_msgdef = _schema_definition
storage_mcap.get_qos = _channel_qos
storage_mcap.DECOMPRESSORS.update(zstd=_chunk(unzstd), lz4=_chunk(unlz4))
ros1.decompressors.update(bz2=unbz2, lz4=unlz4)
