"""What long work says of itself: a line now and then where no bar can be drawn."""

import logging
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress

import pytest

from kd3d_core import progress
from kd3d_core.progress import progress_of


@pytest.fixture
def clock(monkeypatch):
    """A list whose last number is what the clock says."""
    times = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: times[-1])
    return times


def test_off_a_terminal_it_says_a_line_every_half_minute(clock, caplog):
    caplog.set_level(logging.INFO)
    with progress_of("rendering", 100) as step:
        for second in range(100):
            clock.append(float(second))
            step()
    assert caplog.messages == [f"rendering: {done} of 100" for done in (31, 61, 91)]


def test_what_is_not_shown_says_nothing(clock, caplog, capsys):
    caplog.set_level(logging.INFO)
    with progress_of("rendering", 2, shown=False) as step:
        clock.append(1000.0)
        step()
    assert not caplog.messages
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_draws_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_of("rendering", 2) as step:
        step()
        step()
    assert "rendering" in capsys.readouterr().err


TALKATIVE = """
import logging, sys
from kd3d_core.cli.app import run
from kd3d_core.progress import progress_of

def command() -> None:
    with progress_of("rendering", 3) as step:
        for number in range(3):
            step()
            logging.getLogger("kd3d").info("line %d", number)

sys.exit(run(command, prog="x", description="", examples=[], args=[]))
"""


def test_log_lines_and_the_bar_keep_apart_on_a_terminal():
    terminal, behind = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", TALKATIVE], stderr=behind, env=environment) as job:
        os.close(behind)
        said = b""
        with suppress(OSError):  # how Linux tells that nobody writes any more
            while block := os.read(terminal, 4096):
                said += block
    os.close(terminal)
    assert job.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    assert [line for line in lines if "line" in line] == ["line 0", "line 1", "line 2"]
    assert any(line.startswith("rendering") for line in lines)
