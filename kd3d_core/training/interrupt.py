"""Ctrl-C and SIGTERM during a training, which then ends between two steps."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


@contextmanager
def noticed_interrupts(alone: bool) -> Iterator[Callable[[], bool]]:
    """Gives what says whether the run is asked to end; a second request ends it at once.

    Signals do what they did before where the run isn't `alone`, as processes that train together
    must end at the same step, and in threads, which aren't told of any.
    """
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        log.info("the run ends after this step; the same signal again ends it at once")

    if not alone or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
