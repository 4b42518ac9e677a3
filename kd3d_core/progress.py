"""Progress of long work, on stderr: a bar on a terminal, a line now and then in a log."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import Progress

log = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
"""Where no progress bar can be drawn, a line instead."""


@contextmanager
def progress_of(what: str, total: int | None, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Show how far something is.

    Args:
        what: is being done, for example `rendering`.
        total: number of steps; None if it isn't known.
        shown: False shows nothing, as all processes but one of a distributed run want it.

    Yields:
        To be called after each step.
    """
    console = Console(stderr=True)
    if shown and not console.is_terminal:
        yield _Lines(what, total)
        return
    with Progress(console=console, disable=not shown) as progress:
        yield partial(progress.advance, progress.add_task(what, total=total))


class _Lines:
    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._next = time.monotonic() + LINE_EVERY_S

    def __call__(self) -> None:
        self._done += 1
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_EVERY_S
            of_total = "" if self._total is None else f" of {self._total}"
            log.info("%s: %d%s", self._what, self._done, of_total)
