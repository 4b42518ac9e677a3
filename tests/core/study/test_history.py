"""How a run went, from the curves of all its attempts."""

from unittest import mock

import pytest
from torch.utils.tensorboard import SummaryWriter

from kd3d_core.study.history import read_history


def attempt(run, began: float, steps: range, validate_every: int, name: str) -> None:
    """Curves of an attempt that takes a step every 2 s, and whose AP is its step's number."""
    with mock.patch("time.time", return_value=began):
        writer = SummaryWriter(str(run / "tensorboard"), filename_suffix=name)
    for step in steps:
        wall = began + 2 * (step - steps.start + 1)
        writer.add_scalar("lr", 0.1, step, walltime=wall)
        if step % validate_every == 0:
            writer.add_scalar("val/Car_3d", float(step), step, walltime=wall + 1)
            writer.add_scalar("val/Car_bev", 2.0 * step, step, walltime=wall + 1)
    writer.close()


def test_an_interrupted_run_counts_what_its_end_is_made_of(tmp_path):
    attempt(tmp_path, 1000, range(1, 9), 4, "a")  # killed after step 8
    attempt(tmp_path, 5000, range(7, 13), 4, "b")  # goes on after the checkpoint of step 6
    history = read_history(tmp_path)
    assert history.steps == (4, 8, 12)
    assert history.scores == {"Car_3d": (4, 8, 12), "Car_bev": (8, 16, 24)}
    # Steps 1 to 6, and steps 7 to 12 with the validation after the last of them.
    assert history.seconds == pytest.approx(6 * 2 + 6 * 2 + 1, abs=0.1)


def test_an_attempt_that_had_nothing_to_do_takes_no_time(tmp_path):
    attempt(tmp_path, 1000, range(1, 5), 2, "a")
    attempt(tmp_path, 9000, range(5, 5), 2, "b")
    assert read_history(tmp_path).seconds == pytest.approx(9, abs=0.1)
