"""Long work on many items in several processes: each item once, and resumable at any time.

What is done is what is on disk, so the same command goes on where a run was interrupted, however
that happened; several runs on one folder share the items among them.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from kd3d_core.errors import Kd3dError
from kd3d_core.files import claimed

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def work_through(
    work: Callable[[str], object],
    items: Sequence[str],
    folder: Path,
    is_done: Callable[[str], bool],
    workers: int = 1,
) -> Iterator[bool]:
    """Do what is left of the work, and wait for what other runs are doing.

    Args:
        work: does one item and writes it, whole or not at all; called in several processes, so it
            must be a function of a module or a `partial` of one.
        items: names of what is to be done.
        folder: that the results go to; the items are claimed in it.
        is_done: whether an item's result is there; pickled like `work`.
        workers: processes; 1 works in this one.

    Yields:
        For each item once its result is there: whether this run made it.

    Raises:
        Kd3dError: of the first item that fails, without those that were not begun; or a process
            was killed.
    """
    missing = []
    for item in items:
        if is_done(item):
            yield False
        else:
            missing.append(item)
    for wait in (False, True):
        attempt = partial(_attempt, work, is_done, folder, wait)
        busy = []
        for item, made in _outcomes(attempt, missing, folder, min(workers, len(missing))):
            if made is None:
                busy.append(item)
            else:
                yield made
        missing = busy


def _attempt(
    work: Callable[[str], object],
    is_done: Callable[[str], bool],
    folder: Path,
    wait: bool,
    item: str,
) -> tuple[str, bool | None]:
    """The item, and whether it was made here; None if another process is making it."""
    with claimed(folder, item, wait) as is_mine:
        if not is_mine:
            return item, None
        if is_done(item):
            return item, False
        try:
            work(item)
        except Kd3dError as error:
            raise Kd3dError(str(error)) from None  # not every kind can be sent to another process
        except MemoryError:
            raise Kd3dError(f"{folder}: memory ran out at {item}: use fewer workers") from None
        return item, True


def _outcomes(
    attempt: Callable[[str], tuple[str, bool | None]],
    items: Sequence[str],
    folder: Path,
    workers: int,
) -> Iterator[tuple[str, bool | None]]:
    if workers <= 1:
        yield from map(attempt, items)
        return
    with (
        _single_threaded(),
        ProcessPoolExecutor(workers, get_context("spawn"), _follow_parent) as pool,
    ):
        try:
            for job in as_completed([pool.submit(attempt, item) for item in items]):
                yield job.result()
        except BrokenProcessPool:
            raise Kd3dError(
                f"{folder}: a process that worked on it was killed, as happens when memory runs "
                "out: the same command goes on; fewer workers need less memory"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "only spawned processes call this"
    parent.join()
    os._exit(1)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes that start meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ |= dict.fromkeys(_THREADS, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
