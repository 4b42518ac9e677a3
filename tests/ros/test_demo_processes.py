"""The demo's processes: none outlives it, and what goes wrong with one is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kd3d_core.errors import Kd3dError
from kd3d_ros import demo, processes

LIMIT_S = 60.0
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# Ends with status 0 on SIGINT, and says when it is ready to.
OBEY = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(0));"
    "print('recording /points', flush=True); signal.pause()",
]


def wait_for(event: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not event():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
        # An orphan stays as a zombie where nobody reaps it.
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def start_demo(folder: Path, command: list[str]) -> "subprocess.Popen[str]":
    """A demo whose only child runs `command`; it prints the child's process number."""
    code = (
        "import sys; from pathlib import Path; from kd3d_ros import demo, processes\n"
        "def setup():\n"
        f"    with processes.running('child', {command!r}, Path('log')) as child:\n"
        "        print(child.popen.pid, flush=True)\n"
        "        child.popen.wait()\n"
        "demo.demo, sys.argv = setup, ['kd3d-demo']\n"
        "sys.exit(demo.main())"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True
    )


def test_sigterm_ends_the_children(tmp_path: Path) -> None:
    parent = start_demo(tmp_path, SLEEP)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(LIMIT_S) == 143
        assert not is_running(child)
    finally:
        parent.kill()
        parent.wait()


# Writes a file on SIGINT and SIGTERM, as the recorder does with its bag.
FINISH = [
    sys.executable,
    "-c",
    "import signal, sys; from pathlib import Path;"
    "finish = lambda *_: (Path('finished').touch(), sys.exit(0));"
    "signal.signal(signal.SIGINT, finish); signal.signal(signal.SIGTERM, finish);"
    "Path('ready').touch(); signal.pause()",
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_children_finish_their_work_when_the_demo_is_ended(tmp_path: Path, number: int) -> None:
    parent = start_demo(tmp_path, FINISH)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for((tmp_path / "ready").exists)
        parent.send_signal(number)
        assert parent.wait(LIMIT_S) == (130 if number == signal.SIGINT else -number)
        wait_for((tmp_path / "finished").exists)
        wait_for(lambda: not is_running(child))
    finally:
        parent.kill()
        parent.wait()


def test_children_obey_sigint_where_the_demo_runs_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_STOP_LIMIT_S", LIMIT_S)
    command = [sys.executable, "-c", "print(1, flush=True); import signal; signal.pause()"]
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Kd3dError, match="KeyboardInterrupt"):
            wait_and_end(command, tmp_path / "log")
    finally:
        signal.signal(signal.SIGINT, previous)


def wait_and_end(command: list[str], log: Path) -> None:
    with processes.running("node", command, log):
        wait_for(log.read_text)


def test_what_a_killed_recorder_leaves_is_removed(tmp_path: Path) -> None:
    def run() -> None:
        with demo._without_partial(tmp_path):
            (tmp_path / ".output.partial-x" / "output").mkdir(parents=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not list(tmp_path.iterdir())


def test_a_process_that_ignores_sigint_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True)"
    command = [sys.executable, "-c", f"{stubborn}; signal.pause()"]
    monkeypatch.setattr(processes, "_STOP_LIMIT_S", 0.1)

    def run() -> None:
        with processes.running("mule", command, tmp_path / "log") as process:
            started.append(process)
            wait_for((tmp_path / "log").read_text)

    started: list[processes.Process] = []
    with pytest.raises(Kd3dError, match="the mule did not end after SIGINT"):
        run()
    assert started[0].popen.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("cannot configure: no weights: get some\nmore", "no weights: get some"),
        ("cannot configure: ", "the node cannot configure"),
        ("cannot configure:", "the node cannot configure"),
        ("cannot configure: \nmore", "the node cannot configure"),
        ("configured", None),
    ],
)
def test_why_a_node_is_in_trouble(tmp_path: Path, log: str, reason: str | None) -> None:
    popen = subprocess.Popen(SLEEP)
    try:
        (tmp_path / "log").write_text(log)
        assert processes.Process("node", tmp_path / "log", popen).trouble() == reason
    finally:
        popen.kill()
        popen.wait()


def test_it_waits_until_the_recorder_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        processes.running("recorder", OBEY, tmp_path / "recorder.log") as recorder,
        processes.running("node", OBEY, tmp_path / "node.log") as node,
    ):
        demo._wait_until_recording(recorder, node)
        assert "recording" in recorder.log.read_text()
        wait_for(node.log.read_text)  # can take SIGINT

        deaf = processes.Process("recorder", tmp_path / "deaf.log", recorder.popen)
        deaf.log.write_text("no recording yet")
        monkeypatch.setattr(demo, "_START_LIMIT_S", 0.1)
        with pytest.raises(Kd3dError, match=r"the recorder does not listen after 0\.1 s"):
            demo._wait_until_recording(deaf, node)
        node.log.write_text("cannot configure: no weights")
        with pytest.raises(Kd3dError, match="no weights"):
            demo._wait_until_recording(deaf, node)
        node.log.write_text("")
