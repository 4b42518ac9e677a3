"""Files: found, read, written whole, claimed."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kd3d_core import files
from kd3d_core.errors import DataError
from kd3d_core.files import claimed, files_in, read_text, write_all, write_whole


def test_hidden_files_and_other_endings_are_not_listed(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "._a.png", ".c.png", "d.txt", "e.png.part"):
        (tmp_path / name).write_text("")
    assert [path.name for path in files_in(tmp_path, (".png",))] == ["a.PNG", "b.png"]


def test_texts_of_all_editors_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for data in (
        "Straße\n".encode(),
        b"\xef\xbb\xbf" + "Straße\n".encode(),
        "Straße\n".encode("utf-16"),
        b"\xfe\xff" + "Straße\n".encode("utf-16-be"),
    ):
        path.write_bytes(data)
        assert read_text(path) == "Straße\n"
    for data in (b"\xff\xfe\0", b"\xfc", "Straße".encode("latin-1")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"text: cannot be read: it is no UTF-8 text"):
            read_text(path)
    with pytest.raises(DataError, match=r"absent: cannot be read: No such file"):
        read_text(tmp_path / "absent")


def test_all_files_or_none_are_written(tmp_path: Path) -> None:
    write_all({tmp_path / "new" / "a": b"1", tmp_path / "b": b"2"})
    assert (tmp_path / "new" / "a").read_bytes() == b"1"
    with pytest.raises(DataError, match="can't be written"):
        write_all({tmp_path / "c": b"3", tmp_path / "b" / "d": b"4"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "new"]
    write_whole(tmp_path / "b", b"5")
    assert (tmp_path / "b").read_bytes() == b"5"


_OTHER = """
import sys
from pathlib import Path
from kd3d_core.files import claimed
with claimed(Path(sys.argv[1]), sys.argv[2]) as is_mine:
    print(is_mine, flush=True)
    sys.stdin.read()
"""


def other_process(folder: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_claim_lasts_as_long_as_its_process(tmp_path: Path) -> None:
    other = other_process(tmp_path, "000000")
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    with claimed(tmp_path, "000000") as is_mine, claimed(tmp_path, "000001") as also_mine:
        assert (is_mine, also_mine) == (False, True)
    other.kill()
    other.communicate()
    with claimed(tmp_path, "000000", wait=True) as is_mine:
        assert is_mine
        third = other_process(tmp_path, "000000")
        assert third.communicate("")[0] == "False\n"
    assert [path.name for path in tmp_path.iterdir()] == [".claims"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file can't be written"), claimed(tmp_path / "file", "a"):
        pass


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


def test_no_more_of_a_text_is_read_than_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("12345")
    assert read_text(path, 5) == "12345"
    with pytest.raises(DataError, match="it is larger than 4e-06 MB"):
        read_text(path, 4)
    with pytest.raises(DataError, match="zero: cannot be read: it is larger than 50 MB"):
        read_text("/dev/zero")
