"""One run in a process of its own: its log, its end, the lock that it inherits."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kd3d_core.errors import DataError
from kd3d_core.study import process
from kd3d_core.study.process import RunError, lock_study
from kd3d_core.study.runs import student_runs

LIMIT_S = 60


@pytest.fixture
def interpreter(tmp_path, monkeypatch):
    """Puts a shell script in the place of `kd3d-train`."""

    def write(script: str) -> None:
        path = tmp_path / "interpreter"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


def test_a_run_has_its_settings_and_its_log(study, tmp_path, interpreter):
    interpreter('echo "arguments $@"; echo said >&2')
    run = student_runs(study)[1]
    with lock_study(tmp_path / "study") as lock:
        process.train(run, lock, lambda line: None)
    settings = run.folder / "train.yaml"
    assert run.log.read_text() == f"arguments -m kd3d_core.cli.train {settings}\nsaid\n"
    assert "task: distill" in settings.read_text()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'kd3d-train: no frames' >&2; exit 1", r"kd3d-train: no frames \(its log is .*log\)"),
        ("kill -9 $$", "ended by SIGKILL"),
    ],
)
def test_a_run_that_fails_says_why(study, tmp_path, interpreter, script, reason):
    interpreter(script)
    with lock_study(tmp_path / "study") as lock, pytest.raises(RunError, match=reason):
        process.train(student_runs(study)[0], lock, lambda line: None)


def test_a_study_that_is_interrupted_ends_its_run(study, tmp_path, interpreter, monkeypatch):
    monkeypatch.setattr(process, "_POLL_S", 0.05)
    interpreter("echo $$; exec sleep 600")
    run = student_runs(study)[0]

    def interrupt(line: str) -> None:
        if line.isdigit():
            raise KeyboardInterrupt

    with lock_study(tmp_path / "study") as lock, pytest.raises(KeyboardInterrupt):
        process.train(run, lock, interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int(run.log.read_text()), 0)


def test_a_folder_is_taken_until_the_last_run_of_a_killed_study_ends(tmp_path):
    out = tmp_path / "study"
    with lock_study(out) as lock:
        left_behind = subprocess.Popen(["sleep", "600"], pass_fds=(lock,))
        with pytest.raises(DataError, match="in use by another kd3d-ablate"), lock_study(out):
            pass
    try:
        with pytest.raises(DataError, match="or by a training run that one left behind"):
            wait_for_lock(out, 0)
    finally:
        left_behind.kill()
        left_behind.wait()
    wait_for_lock(out, LIMIT_S)


def wait_for_lock(out: Path, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while True:
        try:
            with lock_study(out):
                return
        except DataError:
            if time.monotonic() >= ends:
                raise
            time.sleep(0.01)
