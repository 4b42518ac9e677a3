"""Files: found and read as people make them, written whole, claimed and locked."""

import codecs
import fcntl
import glob
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kd3d_core.errors import DataError


def files_in(folder: Path, endings: Collection[str]) -> list[Path]:
    """The files of a folder that end as asked, by name.

    Hidden ones are no data: macOS puts a `._NAME` beside each file on foreign disks.

    Args:
        folder: that is there.
        endings: in lower case, with their dot; files may have them in any case.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in endings and not path.name.startswith(".")
    )


def read_text(path: Path | str) -> str:
    """Contents of a text file: UTF-8 with or without byte order mark, or UTF-16 with one.

    Raises:
        DataError: it isn't there, can't be read, or is no text.
    """
    try:
        data = Path(path).read_bytes()
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under its own name only once all of it is there; makes its folder.

    Raises:
        DataError: the disk is full, or the place can't be written; nothing is left behind.
    """
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write files under their own names only once all of all is there; makes their folders.

    Args:
        files: contents by path; they get their names in this order.

    Raises:
        DataError: the disk is full, or a place can't be written; nothing is left behind.
    """
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


@contextmanager
def claimed(folder: Path, name: str, wait: bool = False) -> Iterator[bool]:
    """Claim a name in a folder for this process, as long as it lives at most.

    The claim is a lock of the kernel on one byte of the file `.claims`. Locks belong to processes,
    so threads of one process must share out the names themselves. On file systems without locks
    everybody gets what they claim.

    Args:
        folder: that processes work in, made if it isn't there.
        name: of what is to be done.
        wait: whether to wait for a process that has it.

    Yields:
        Whether the name is this process's now.

    Raises:
        DataError: the folder can't be written.
    """
    byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claims = os.open(folder / ".claims", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise DataError(f"{folder} can't be written: {error}") from None
    try:
        is_mine = True
        try:
            fcntl.lockf(claims, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, byte)
        except (BlockingIOError, PermissionError):
            is_mine = False
        except OSError:
            pass
        yield is_mine
    finally:
        os.close(claims)


@contextmanager
def locked(folder: Path, lock: Callable[[int, int], object], refusal: str) -> Iterator[int]:
    """Hold a folder, which is made if it isn't there; gives the descriptor that holds it.

    Args:
        folder: to hold, by the file `lock` in it. On file systems without locks nobody holds any.
        lock: `fcntl.flock`, which processes that inherit the descriptor hold too, until the last of
            them ends; or `fcntl.lockf`, which ends with this process.
        refusal: what to say if another process holds it.

    Raises:
        DataError: `refusal`, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise DataError(f"{folder} can't be written: {error}") from None
    try:
        try:
            lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise DataError(refusal) from None
        except OSError:
            pass
        yield descriptor
    finally:
        os.close(descriptor)


_LOCK = ".lock"


class ClaimedFolder:
    """A new folder to work in, which other processes see to be in use until it is released.

    The claim is a lock that the kernel drops when the process ends, however that happens.

    Attributes:
        path: the folder.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        """
        Args:
            parent: where to make it.
            prefix: beginning of its name; the rest is made up.

        Raises:
            OSError: it can't be made.
        """
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
