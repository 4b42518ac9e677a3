"""SIGINT and SIGTERM: the first one lets what is under way be finished."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event

# `ros2 launch` passes on the SIGINT that the terminal sends to both: two for one Ctrl-C.
_ONE_SIGNAL_S = 1.0


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """An event that SIGINT and SIGTERM set; later than a second after, they end the process."""
    stop = Event()
    ends_at_once_from = 0.0

    def on_signal(number: int, frame: object) -> None:
        nonlocal ends_at_once_from
        if stop.is_set():
            if time.monotonic() > ends_at_once_from:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        ends_at_once_from = time.monotonic() + _ONE_SIGNAL_S
        stop.set()
        with suppress(OSError):  # not print, which the signal may have interrupted
            os.write(2, b"stopping, when what is under way is done; one more signal ends at once\n")

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
