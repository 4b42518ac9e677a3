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
from itertools import islice
from multiprocessing import forkserver, get_context, parent_process
from pathlib import Path
from typing import Any

from kd3d_core.errors import Kd3dError, first_line
from kd3d_core.files import claimed
from kd3d_core.memory import keep_freed_memory

# A server that has one thread forks the processes: they start without importing all anew, and
# without the locks that threads of this process may hold.
_CONTEXT = get_context("forkserver")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def start_early(module: str) -> None:
    """Begin to start processes for `work_through`, which import a module while this one goes on."""
    _CONTEXT.set_forkserver_preload([module])
    with _single_threaded():
        forkserver.ensure_running()


def work_through(
    work: Callable[[str], object],
    items: Sequence[str],
    folder: Path,
    is_done: Callable[[str], bool],
    workers: int = 1,
    ray_address: str = "",
) -> Iterator[bool]:
    """Do what is left of the work, and wait for what other runs are doing.

    Args:
        work: does one item and writes it, whole or not at all; called in several processes, so it
            must be a function of a module or a `partial` of one.
        items: names of what is to be done.
        folder: that the results go to; the items are claimed in it.
        is_done: whether an item's result is there; pickled like `work`.
        workers: processes; 1 works in this one.
        ray_address: of a Ray cluster that does the work instead, on all of its CPUs; its machines
            have kd3d installed, and share the folder. `auto` is the one that this machine is in.

    Yields:
        For each item once its result is there: whether this run made it.

    Raises:
        Kd3dError: of the first item that fails, without those that were not begun; or a process
            was killed; or Ray isn't installed, or doesn't answer.
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
        outcomes = (
            _outcomes_of_cluster(attempt, missing, folder, ray_address)
            if ray_address and missing
            else _outcomes(attempt, missing, folder, min(workers, len(missing)))
        )
        for item, made in outcomes:
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
        ProcessPoolExecutor(workers, _CONTEXT, _follow_parent) as pool,
    ):
        try:
            for job in as_completed([pool.submit(attempt, item) for item in items]):
                yield job.result()
        except BrokenProcessPool:
            raise _killed(folder) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _killed(folder: Path) -> Kd3dError:
    return Kd3dError(
        f"{folder}: a process that worked on it was killed, as happens when memory runs out: the "
        "same command goes on; fewer workers need less memory"
    )


def _outcomes_of_cluster(
    attempt: Callable[[str], tuple[str, bool | None]],
    items: Sequence[str],
    folder: Path,
    address: str,
) -> Iterator[tuple[str, bool | None]]:
    ray = require_ray()
    try:
        ray.init(
            address,
            ignore_reinit_error=True,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": dict.fromkeys(_THREADS, "1")},
        )
    except Exception as error:  # Ray has many kinds
        raise Kd3dError(
            f"--ray {address}: no Ray cluster answers there: {first_line(error)}"
        ) from None
    task = ray.remote(max_retries=0)(_call)
    left = iter(items)
    running: list[Any] = []
    try:
        while True:
            free = max(1, int(ray.cluster_resources().get("CPU", 1))) - len(running)
            running += [task.remote(attempt, item) for item in islice(left, max(free, 0))]
            if not running:
                return
            finished, running = ray.wait(running)
            for outcome in finished:
                yield ray.get(outcome)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Kd3dError):
            raise Kd3dError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError:
        raise _killed(folder) from None
    finally:
        for outcome in running:
            ray.cancel(outcome, force=True)
        ray.shutdown()


def require_ray() -> Any:
    """The module `ray`; `Kd3dError` says how to install it."""
    try:
        import ray
    except ImportError:
        raise Kd3dError(
            "--ray needs the package ray, which isn't installed: pip install 'kd3d_ros[ray]'"
        ) from None
    return ray


def _call(attempt: Callable[[str], tuple[str, bool | None]], item: str) -> tuple[str, bool | None]:
    return attempt(item)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it, even if it is killed."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "only processes of a pool call this"
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
