"""Folders that processes claim."""

import fcntl
import shutil
from pathlib import Path
from typing import Any

import pytest

from kd3d_core import files


def test_a_folder_taken_for_abandoned_while_it_is_claimed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may look between the making of the lock and its locking."""
    lock, tidied = fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not tidied:
            tidied.append("in another process")
            for folder in files.abandoned_folders(tmp_path, "a-"):
                tidied.append(folder)
                shutil.rmtree(folder)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    claimed = files.ClaimedFolder(tmp_path, "a-")
    assert len(tidied) == 2
    assert list(tmp_path.iterdir()) == [claimed.path]
    assert list(files.abandoned_folders(tmp_path, "a-")) == []
    claimed.release()
    assert list(files.abandoned_folders(tmp_path, "a-")) == [claimed.path]
