"""SQLite files (`.db3`) that are cut off, damaged, or have no index of their stamps.

A table is read row by row, as far as SQLite gives its pages. Pages carry no checksums: a changed
byte in a message stays unseen.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import apsw
from rosbags.interfaces import Connection, ConnectionExtRosbag2
from rosbags.rosbag2 import ReaderError

from kd3d_core.data.bag.compression import MAX_BYTES
from kd3d_core.data.bag.parts import PART_BYTES, Contents, Part, PartsReader
from kd3d_core.data.bag.topics import parsed_qos
from kd3d_core.data.bag.types import NO_DEFINITION, definition_of

_ROWS = "SELECT id, topic_id, timestamp, data FROM messages NOT INDEXED"


def connect(path: Path, patient: bool = False) -> apsw.Connection:
    """A database opened for reading.

    A write-ahead log beside it, which a crash may leave, is part of it: SQLite then needs to write
    beside the database. `patient` opens a database that is shorter than it says, too.
    """
    log = path.with_name(f"{path.name}-wal")
    has_log = log.is_file() and log.stat().st_size > 0
    database = apsw.Connection(
        f"{path.absolute().as_uri()}?{'mode=ro' if has_log else 'immutable=1'}",
        flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
        vfs=_whole_pages().vfs_name if patient and not has_log else None,
    )
    database.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_BYTES)
    if patient:
        database.execute("PRAGMA writable_schema=ON")  # which makes it take what pages there are
    return database


class _WholePages(apsw.VFS):
    """Opens files as if they ended with their last whole page.

    SQLite would take what is missing of a page for zeros, and so for the end of a message.
    """

    vfs_name = "kd3d-whole-pages"

    def __init__(self) -> None:
        super().__init__(self.vfs_name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's own
        return _WholePagesFile("", name, flags)


class _WholePagesFile(apsw.VFSFile):
    def xFileSize(self) -> int:  # noqa: N802 - SQLite's own
        size = super().xFileSize()
        page = int.from_bytes(self.xRead(2, 16), "big") if size >= 18 else 0
        return size // page * page if page > 1 else size // 65536 * 65536


@cache
def _whole_pages() -> _WholePages:
    return _WholePages()


def read_connections(database: apsw.Connection, counts: dict[int, int]) -> list[Connection]:
    """The topics of a database, of any version of rosbag2; `counts` by the topics' ids."""
    tables = {
        name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
    }
    if not {"messages", "topics"} <= tables:
        raise ReaderError("it has no tables of topics and messages")
    definitions = {}
    if "message_definitions" in tables:
        definitions = {
            name: definition_of(str(encoding), str(text))
            for name, encoding, text in database.execute(
                "SELECT topic_type, encoding, encoded_message_definition "
                "FROM message_definitions ORDER BY id DESC"
            )
        }
    columns = {row[1] for row in database.execute("PRAGMA table_info(topics)")}
    qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
    return [
        Connection(
            key, str(topic), str(kind), definitions.get(kind, NO_DEFINITION), "",
            counts.get(key, 0), ConnectionExtRosbag2(str(encoding), parsed_qos(str(offered))), None,
        )
        for key, topic, kind, encoding, offered in database.execute(
            f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id"
        )
    ]  # fmt: skip


class SqliteParts(PartsReader):
    """A database read in the order of its rows."""

    def __init__(self, path: Path, contents: Contents) -> None:
        super().__init__(path, contents)
        self._database = connect(path, patient=True)

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def scan(path: Path) -> Contents:
        database = connect(path, patient=True)
        found = Contents()
        try:
            connections = read_connections(database, Counter())
            found.connections = {connection.id: connection for connection in connections}
            _scan_rows(database, found)
        finally:
            database.close()
        return found

    def read(self, part: Part) -> Iterator[tuple[int, int, bytes]]:
        assert part.size is not None
        rows = self._database.execute(f"{_ROWS} WHERE id >= ? ORDER BY id", (part.place,))
        # In this order, so that no row is asked for behind the last one.
        for _, (_, key, stamp, data) in zip(range(part.size), rows, strict=False):
            yield key, stamp, data


def _scan_rows(database: apsw.Connection, found: Contents) -> None:
    rows: list[tuple[int, int]] = []
    first, size, last = 0, 0, "its first message"
    try:
        for number, key, stamp, data in database.execute(f"{_ROWS} ORDER BY id"):
            if not isinstance(stamp, int) or key not in found.connections:
                found.stopped = f"{last}: the next one has no stamp or no topic"
                break
            first = first if rows else number
            rows.append((key, stamp))
            size += len(data) if isinstance(data, bytes) else 0
            last = f"behind message {number}"
            if size > PART_BYTES:
                found.add(first, len(rows), rows)
                rows, size = [], 0
    except apsw.Error as error:
        found.stopped = f"{last}: {error}"
    found.add(first, len(rows), rows)
