"""Writing files so that a reader never sees half of one."""

import os
from contextlib import suppress
from pathlib import Path

from kd3d_core.errors import DataError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under its own name only once all of it is there; makes its folder.

    Raises:
        DataError: the disk is full, or the place can't be written; nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise DataError(f"{path} can't be written: {error}") from None
