"""Writing files so that a reader never sees half of one."""

import fcntl
import glob
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kd3d_core.errors import DataError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under its own name only once all of it is there; makes its folder.

    Raises:
        DataError: the disk is full, or the place can't be written; nothing is left behind.
    """
    # Others may write the same file at the same time, from machines that share the disk as well.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(f"{path} can't be written: {error}") from None


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
