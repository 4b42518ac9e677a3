"""The pool of workers: each item once, resumable, and one line for what goes wrong."""

import importlib
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from kd3d_core.errors import Kd3dError
from kd3d_core.files import claimed
from kd3d_core.messages.pixels import PixelsError
from kd3d_core.workers import work_through

ITEMS = [f"{index:06d}" for index in range(6)]


def is_done(folder: Path, item: str) -> bool:
    return (folder / item).is_file()


def make(folder: Path, item: str) -> None:
    with (folder / "log").open("a") as log:
        log.write(f"{item} {os.environ.get('OMP_NUM_THREADS')}\n")
    (folder / item).write_text("")


def run(work, folder: Path, workers: int = 1) -> list[bool]:
    return list(
        work_through(partial(work, folder), ITEMS, folder, partial(is_done, folder), workers)
    )


def made(folder: Path) -> list[str]:
    return sorted(line.split()[0] for line in (folder / "log").read_text().splitlines())


@pytest.mark.parametrize("workers", [1, 2])
def test_each_item_is_made_once(tmp_path: Path, workers: int) -> None:
    make(tmp_path, ITEMS[2])
    assert sorted(run(make, tmp_path, workers)) == [False] + 5 * [True]
    assert made(tmp_path) == ITEMS
    assert run(make, tmp_path, workers) == 6 * [False]
    assert made(tmp_path) == ITEMS


def make_or_die(folder: Path, item: str) -> None:
    if item == ITEMS[3]:
        os.kill(os.getpid(), signal.SIGKILL)
    make(folder, item)


def test_a_killed_worker_is_one_line_and_the_next_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Kd3dError, match=r"was killed.* the same command goes on") as caught:
        run(make_or_die, tmp_path, workers=2)
    assert "\n" not in str(caught.value)
    run(make, tmp_path)
    assert made(tmp_path) == ITEMS


def refuse(folder: Path, item: str) -> None:
    if item == ITEMS[1]:
        raise PixelsError("zero_size", f"{folder}: {item} is empty")
    make(folder, item)


def run_out_of_memory(folder: Path, item: str) -> None:
    raise MemoryError


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_worker_is_one_line(tmp_path: Path, workers: int) -> None:
    with pytest.raises(Kd3dError) as caught:
        run(refuse, tmp_path, workers)
    assert str(caught.value) == f"{tmp_path}: 000001 is empty"
    with pytest.raises(Kd3dError, match=r"memory ran out at 00000.: use fewer workers"):
        run(run_out_of_memory, tmp_path, workers)


_OTHER_RUN = """
import sys
from pathlib import Path
from kd3d_core.files import claimed
folder, item = Path(sys.argv[1]), sys.argv[2]
with claimed(folder, item):
    print(flush=True)
    sys.stdin.readline()
    if sys.argv[3] == "makes it":
        (folder / item).write_text("")
"""


@pytest.mark.parametrize("end", ["makes it", "dies"])
def test_two_runs_share_a_folder(tmp_path: Path, end: str) -> None:
    """What another run has begun is left to it, waited for, and made here if the other fails."""
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER_RUN, str(tmp_path), ITEMS[0], end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdin is not None
    other.stdout.readline()
    outcomes = work_through(
        partial(make, tmp_path), ITEMS, tmp_path, partial(is_done, tmp_path), workers=1
    )
    assert [next(outcomes) for _ in range(5)] == 5 * [True]
    assert made(tmp_path) == ITEMS[1:]
    other.stdin.write("\n")
    other.stdin.flush()
    assert next(outcomes) is (end == "dies")
    assert list(outcomes) == []
    assert is_done(tmp_path, ITEMS[0])
    assert made(tmp_path) == (ITEMS if end == "dies" else ITEMS[1:])
    other.communicate()


_RUN_OF_TWO = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_workers
from kd3d_core.workers import work_through
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for _ in work_through(partial(test_workers.make_slowly, folder), test_workers.ITEMS, folder,
                          partial(test_workers.is_done, folder), 2):
        pass
"""


def make_slowly(folder: Path, item: str) -> None:
    """Begins, and never ends."""
    os.write(1, f"{item}\n".encode())  # print writes the end of the line by itself
    signal.pause()


def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(_RUN_OF_TWO)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out"), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    try:
        assert {parent.stdout.readline() for _ in range(2)} == {f"{item}\n" for item in ITEMS[:2]}
    finally:
        parent.kill()
    parent.communicate(timeout=60)  # ends once no worker holds its end of the pipe any more
    with claimed(tmp_path / "out", ITEMS[0]) as is_mine:
        assert is_mine


def test_workers_use_one_thread_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    run(make, tmp_path, workers=2)
    assert {line.split()[1] for line in (tmp_path / "log").read_text().splitlines()} == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


_LOUD = """
import os
with open(os.environ["LOUD"], "a") as log:
    print(os.getpid(), file=log)
"""
_EARLY_RUN = """
import sys
from functools import partial
from pathlib import Path
import test_workers
from kd3d_core.workers import start_early, work_through
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    start_early("loud")
    done = work_through(partial(test_workers.make_loudly, folder), test_workers.ITEMS, folder,
                        partial(test_workers.is_done, folder), 2)
    print(len(list(done)), "loud" in sys.modules)
"""


def make_loudly(folder: Path, item: str) -> None:
    importlib.import_module("loud")
    make(folder, item)


def test_what_is_loaded_early_is_loaded_once_for_all_workers(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(_LOUD)
    (tmp_path / "run.py").write_text(_EARLY_RUN)
    paths = [str(tmp_path), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ, "LOUD": str(tmp_path / "log.txt"), "PYTHONPATH": os.pathsep.join(paths),
    }  # fmt: skip
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "out")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["6", "False"]
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 1
    assert {line.split()[1] for line in (tmp_path / "out" / "log").read_text().splitlines()} == {
        "1"
    }
