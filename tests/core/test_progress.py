"""What long work says of itself: a line now and then where no bar can be drawn."""

import logging

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
