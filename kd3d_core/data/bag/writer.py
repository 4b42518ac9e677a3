"""Writes bags."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter

from kd3d_core.data.bag.topics import rosbags_qos
from kd3d_core.data.bag.types import typestore
from kd3d_core.errors import DataError, first_line
from kd3d_core.files import ClaimedFolder, abandoned_folders
from kd3d_core.messages.encode import encode
from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import Message

# Version 9 writes QoS in a form that Humble cannot parse; every distribution since reads 8.
_ROSBAG2_VERSION: Literal[8] = 8
# Disk space held back beside the newest message, so that a bag can be finished on a full disk: a
# chunk of messages (rosbags closes it at 1 MiB), and for the index at the file's end.
_RESERVE_BYTES = 3 * 2**19
_INDEX_BYTES_PER_CHUNK = 512


class BagWriter:
    """Writes a rosbag2 folder with one MCAP file; a context manager.

    The bag appears under its name when it is complete. After an error nothing is left of it, or,
    with `keep_partial`, a bag of the messages written before; and until another is in its place, a
    bag that was to be overwritten is still there. What a killed process leaves in a hidden folder
    is removed by the next writer of the same bag, unless it was written with `keep_partial`.

    Args:
        overwrite: whether it may replace a bag of that name.
        keep_partial: whether an error leaves what was written before it. For what cannot be had
            again, such as a recording.

    Raises:
        DataError: the folder exists, or cannot be written; also while messages are written. With
            `keep_partial`, says where the messages are that were written before.
    """

    def __init__(
        self, path: Path | str, overwrite: bool = False, keep_partial: bool = False
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self.counts: dict[str, int] = {}
        self._overwrite, self._keep_partial = overwrite, keep_partial
        self._connections: dict[str, Connection] = {}
        self._claim: ClaimedFolder | None = None
        with self._explain():
            self._tidy_up()
        self._check_free()
        with self._explain():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = self._make_folder()
            try:
                self._writer = _Writer(
                    self._folder / self.path.name,
                    version=_ROSBAG2_VERSION,
                    storage_plugin=StoragePlugin.MCAP,
                )
                self._writer.open()
            except BaseException:
                self._remove_folder()
                raise

    def _tidy_up(self) -> None:
        """Remove what killed processes left of this bag; one that they were replacing goes back."""
        for folder in abandoned_folders(self.path.parent, self._prefix):
            replaced = folder / f"{self.path.name}.replaced"
            if replaced.exists() and not self.path.exists():
                replaced.rename(self.path)
            shutil.rmtree(folder, ignore_errors=True)

    def _make_folder(self) -> Path:
        """Where the bag is written; claimed unless what is in it is to outlive this process."""
        if self._keep_partial:
            return Path(tempfile.mkdtemp(prefix=self._prefix, dir=self.path.parent))
        self._claim = ClaimedFolder(self.path.parent, self._prefix)
        return self._claim.path

    @property
    def _prefix(self) -> str:
        return f".{self.path.name}.partial-"

    def _check_free(self) -> None:
        if not self.path.exists():
            return
        if not self._overwrite:
            raise DataError(f"{self.path} exists already: give another name, or --overwrite")
        if not (self.path / "metadata.yaml").is_file():
            raise DataError(f"{self.path} is no bag, so it isn't overwritten: give another name")

    def __enter__(self) -> "BagWriter":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        written = sum(self.counts.values())
        keep = self._keep_partial and written > 0
        try:
            if error is None or keep:
                self._finish()
            else:
                self._abort()
        except BaseException as failure:
            if not keep:
                self._remove_folder()
            elif isinstance(failure, Exception):
                raise DataError(f"{failure}; {self._remains()}") from failure
            raise
        self._remove_folder()
        if keep and isinstance(error, Exception):
            raise DataError(
                f"{first_line(error)}; {self.path} has the {written} messages from before"
            ) from error

    def add_topic(self, name: str, type_name: str, qos: QosProfile | None = None) -> None:
        """Declare a topic, once, before its first message.

        Raises:
            DataError: the type's definition isn't found.
        """
        with self._explain():
            self._connections[name] = self._writer.add_connection(
                name,
                type_name,
                typestore=typestore((type_name,)),
                offered_qos_profiles=[rosbags_qos(qos or QosProfile())],
            )
        self.counts[name] = 0

    def write(self, topic: str, stamp_ns: int, message: Message | bytes) -> None:
        """Append a message of kd3d's own, or CDR bytes as they are."""
        data = message if isinstance(message, bytes) else encode(message)
        with self._explain():
            self._writer.write(self._connections[topic], stamp_ns, data)
        self.counts[topic] += 1

    def _finish(self) -> None:
        if not any(self.counts.values()):
            self._abort()
            raise DataError(f"{self.path}: there is no message to write, so there is no bag")
        with self._explain():
            self._writer.close()
            self._check_free()
            self._move_into_place()

    def _move_into_place(self) -> None:
        finished = self._folder / self.path.name
        if not self.path.exists():
            finished.rename(self.path)
            return
        replaced = self._folder / f"{self.path.name}.replaced"
        self.path.rename(replaced)
        try:
            finished.rename(self.path)
        except BaseException:
            replaced.rename(self.path)
            raise

    def _remains(self) -> str:
        folder = self._folder / self.path.name
        hint = "" if (folder / "metadata.yaml").is_file() else ": repair it with `mcap recover`"
        return f"what was recorded is kept in {folder}{hint}"

    def _abort(self) -> None:
        with suppress(OSError):  # what is still buffered may not fit the disk
            self._writer.abort()

    def _remove_folder(self) -> None:
        """Remove the temporary folder, but never the only copy of the bag to be replaced."""
        replaced = self._folder / f"{self.path.name}.replaced"
        if self.path.exists() or not replaced.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self.path}: the bag cannot be written: {error.strerror or error}"
            ) from error


class _McapFile(McapWriter):
    """An MCAP file that can be finished when the disk is full.

    A file beside its folder holds space back. When a chunk doesn't fit the disk, that file makes
    room for it, what was written of it is written again, and the next `write` raises the error.
    """

    def __init__(self, folder: Path, compression: CompressionMode) -> None:
        super().__init__(folder, compression)
        self._reserve = folder.with_name(f"{folder.name}.reserve")
        self._reserved = 0
        self._full: OSError | None = None
        try:
            self._hold_back(0)
        except BaseException:
            self.bio.close()
            raise

    def write(self, connection: Connection, timestamp: int, data: bytes | memoryview) -> None:
        if self._full is not None:
            raise self._full
        self._hold_back(len(data))
        super().write(connection, timestamp, data)

    def close_chunk(self) -> None:
        start = self.bio.tell()
        try:
            self.bio.flush()
            super().close_chunk()
        except OSError as error:
            self._full = error
            self._reserve.unlink(missing_ok=True)
            self.bio.seek(start)
            self.bio.truncate()
            super().close_chunk()

    def close(self, version: int, metadata: str) -> None:
        self._reserve.unlink(missing_ok=True)
        super().close(version, metadata)

    def _hold_back(self, message_bytes: int) -> None:
        needed = _RESERVE_BYTES + message_bytes + _INDEX_BYTES_PER_CHUNK * len(self.chunks)
        if needed > self._reserved:
            needed += needed // 8  # so that it grows seldom
            with self._reserve.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, needed)
            self._reserved = needed


class _Writer(Writer):
    STORAGE_PLUGINS = {StoragePlugin.MCAP: _McapFile}  # noqa: RUF012 - as its base has it
