"""Files: found and read as people make them, written whole, claimed and locked."""

import codecs
import fcntl
import glob
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kd3d_core.errors import DataError

_MOST_BYTES = 50_000_000  # of a text; a list of a million frames has less


def files_in(folder: Path, endings: Collection[str]) -> list[Path]:
    """The files of a folder with one of these endings (lower case, with dot), by name.

    Hidden ones are no data: macOS puts a `._NAME` beside each file on foreign disks.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in endings and not path.name.startswith(".")
    )


def read_text(path: Path | str, most_bytes: int = _MOST_BYTES) -> str:
    """Contents of a text file: UTF-8 with or without byte order mark, or UTF-16 with one.

    `DataError` if it isn't there, can't be read, is no text, or has more than `most_bytes`.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise DataError(f"{path}: cannot be read: it is larger than {most_bytes / 1e6:g} MB")
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under its own name only once all of it is there; makes its folder.

    `DataError` if the disk is full, or the place can't be written; nothing is left behind then.
    """
    write_all({path: data})


def write_all(files: Mapping[Path, bytes | memoryview]) -> None:
    """Write files as `write_whole` does, each under its name only once all of all are there."""
    # Others may write the same file at the same time, from machines that share the disk as well.
    token = secrets.token_hex(4)
    partials = {path: path.with_name(f"{path.name}.{token}.part") for path in files}
    path = next(iter(files))
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            partials[path].write_bytes(data)
        for path, partial in partials.items():
            partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error}") from None
    finally:
        for partial in partials.values():
            with suppress(OSError):
                partial.unlink()


def read_json(path: Path, most_bytes: int = _MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file; `DataError` if it can't be read, or holds something else."""
    try:
        value = json.loads(read_text(path, most_bytes))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: it must hold a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_whole` does."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


@contextmanager
def claimed(folder: Path, name: str, wait: bool = False) -> Iterator[bool]:
    """Claim a name in a folder, which is made if need be; gives whether it is this process's now.

    The claim is a lock of the kernel on one byte of the file `.claims`. Locks belong to processes,
    so threads of one process must share out the names themselves. On file systems without locks
    everybody gets what they claim. `DataError` if the folder can't be written.
    """
    byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    with _lock_file(folder / ".claims", lambda file: fcntl.lockf(file, how, 1, byte)) as found:
        yield found[1]


@contextmanager
def locked(folder: Path, lock: Callable[[int, int], object], refusal: str) -> Iterator[int]:
    """Hold a folder, which is made if need be, by the file `lock`; gives its descriptor.

    Args:
        folder: to hold. On file systems without locks nobody holds any.
        lock: `fcntl.flock`, which processes that inherit the descriptor hold too, until the last of
            them ends; or `fcntl.lockf`, which ends with this process.
        refusal: says the `DataError` if another process holds it.
    """
    how = fcntl.LOCK_EX | fcntl.LOCK_NB
    with _lock_file(folder / "lock", lambda file: lock(file, how)) as (descriptor, is_mine):
        if not is_mine:
            raise DataError(refusal)
        yield descriptor


@contextmanager
def _lock_file(path: Path, lock: Callable[[int], object]) -> Iterator[tuple[int, bool]]:
    """An open file's descriptor, and whether no other process has the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise DataError(f"{path.parent} can't be written: {error}") from None
    try:
        is_mine = True
        try:
            lock(descriptor)
        except (BlockingIOError, PermissionError):
            is_mine = False
        except OSError:
            pass  # a file system without locks
        yield descriptor, is_mine
    finally:
        os.close(descriptor)


_LOCK = ".lock"


class ClaimedFolder:
    """A new folder `path` to work in, which other processes see to be in use until it is released.

    The claim is a lock that the kernel drops when the process ends, however that happens.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        self._lock = -1
        while self._lock < 0:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            self._lock = self._locked()

    def release(self) -> None:
        """End the claim; the folder stays."""
        os.close(self._lock)

    def _locked(self) -> int:
        """The lock's descriptor; -1 if another process has just taken the folder for abandoned."""
        lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_WRONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return -1
        except OSError:
            return lock  # this file system has no locks, so nobody takes it for abandoned either
        if (self.path / _LOCK).exists():
            return lock
        os.close(lock)
        return -1


def abandoned_folders(parent: Path, prefix: str) -> Iterator[Path]:
    """Claimed folders whose process has ended, each locked until the next is asked for."""
    for folder in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), (folder / _LOCK).open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
