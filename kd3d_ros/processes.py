"""Processes that run while a block of code does, and end with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from kd3d_core.errors import Kd3dError

_STOP_LIMIT_S = 30.0
# Becomes the command that follows, which gets SIGTERM when its parent dies, even by SIGKILL (Linux
# only: PR_SET_PDEATHSIG), and obeys SIGINT also where the parent, as a job in the background,
# ignores it. Not by preexec_fn, which isn't safe where there are threads.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, int(signal.SIGTERM))
signal.signal(signal.SIGINT, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Process:
    """A process, and the file that its output goes to."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    def trouble(self) -> str | None:
        """Why nothing more can be expected of it; None while all is well."""
        status = self.popen.poll()
        if status is not None:
            return f"the {self.name} ended with status {status}: {self.last_line()}"
        # The node stays up, so that a lifecycle manager can try again; nobody will here.
        _, failed, reason = self.log.read_text(errors="replace").partition("cannot configure:")
        if not failed:
            return None
        return reason.partition("\n")[0].strip() or f"the {self.name} cannot configure"

    def last_line(self) -> str:
        """What it has said last."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def check(self) -> None:
        """Raise if it is in trouble."""
        trouble = self.trouble()
        if trouble is not None:
            raise Kd3dError(f"{trouble} (whole log: {self.log})")


@contextmanager
def running(name: str, command: list[str], log: Path) -> Iterator[Process]:
    """A process that runs while the block does, and is asked to end after it, or if this one dies.

    It doesn't get the terminal's Ctrl-C, which would end all at once.
    """
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, "-S", "-c", _END_WITH_PARENT, str(os.getpid()), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        process = Process(name, log, popen)
        try:
            try:
                yield process
                process.check()
            finally:
                popen.send_signal(signal.SIGINT)
                status = popen.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Kd3dError(f"the {name} did not end after SIGINT; see {log}") from None
        finally:
            popen.kill()
            popen.wait()
        if status != 0:
            raise Kd3dError(f"the {name} ended with {status}: {process.last_line()} ({log})")


@contextmanager
def stop_without(process: Process) -> Iterator[Event]:
    """An event that is set as soon as `process` is in trouble."""
    stop, over = Event(), Event()

    def watch() -> None:
        while not over.wait(0.2):
            if process.trouble() is not None:
                stop.set()

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        over.set()
        watcher.join()
