"""Commands in processes and with logs of their own, as `kd3d-train` for the runs of a study."""

import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from kd3d_core.config import save_settings
from kd3d_core.errors import Kd3dError
from kd3d_core.files import locked
from kd3d_core.study.runs import StudyRun

_POLL_S = 1.0
_GRACE_S = 20.0
"""How long a process may take to end when it is asked to."""


class RunError(Kd3dError):
    """A process ended without its result."""


def lock_study(out: Path) -> AbstractContextManager[int]:
    """Hold a study's folder; gives the descriptor that holds it.

    Training processes inherit it: if this one is killed, the folder stays taken until they end.

    Raises:
        DataError: the folder is taken, or can't be written.
    """
    return locked(
        out,
        fcntl.flock,
        f"{out} is in use by another kd3d-ablate, or by a training run that one left behind when "
        "it was killed: wait for it, or end it",
    )


def train(run: StudyRun, lock: int, on_line: Callable[[str], None]) -> None:
    """Run `kd3d-train` on a run's settings; it goes on where it was interrupted.

    Args:
        run: its settings are written to `train.yaml`, what is said to `train.log`.
        lock: see `lock_study`.
        on_line: called about once a second with the newest line of the log.

    Raises:
        RunError: it failed; says its last line.
    """
    settings = run.folder / "train.yaml"
    save_settings(settings, run.config)
    run_logged(["kd3d_core.cli.train", str(settings)], run.log, on_line, (lock,))


def run_logged(
    command: Sequence[str], log: Path, on_line: Callable[[str], None], keep: Sequence[int] = ()
) -> None:
    """Run a module of Python with words in a process; what it says goes to the end of a log.

    Args:
        command: the module's name and the words.
        log: the file.
        on_line: called about once a second with the newest line of the log.
        keep: file descriptors that the process inherits.

    Raises:
        RunError: it failed; says its last line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=keep,
        )  # fmt: skip
    try:
        while True:
            try:
                status = process.wait(_POLL_S)
                break
            except subprocess.TimeoutExpired:
                on_line(_last_line(log))
    finally:
        _end(process)
    if status < 0:
        name = signal.Signals(-status).name
        raise RunError(f"it was ended by {name} (out of memory?); its log is {log}")
    if status:
        raise RunError(f"{_last_line(log)} (its log is {log})")


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "starting")
