"""A run's folder belongs to one kd3d-train at a time."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_processes import TORCHRUN, start

from kd3d_core.cli import train as command

LIMIT_S = 300
HOLD = """
import fcntl, sys
from pathlib import Path
from kd3d_core.files import locked
with locked(Path(sys.argv[1]), fcntl.lockf, "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held() -> Iterator[Callable[[Path], subprocess.Popen]]:
    """Another process that holds a folder, until it is killed."""
    started = []

    def hold(folder: Path) -> subprocess.Popen:
        words = [sys.executable, "-c", HOLD, str(folder)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def write_run(tmp_path: Path, root: Path | str, model: Path | str = "lite") -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(
        f"task: depth\nmodel: {model}\nout: {tmp_path}/run\ndata: {{root: {root}}}\nworkers: 1\n"
        "epochs: 1\n"
    )
    return path


def test_a_second_run_in_a_folder_is_refused_until_the_first_is_dead(
    tmp_path, held, monkeypatch, capsys
):
    path = write_run(tmp_path, tmp_path / "nothing")
    monkeypatch.setattr(sys, "argv", ["kd3d-train", str(path)])
    first = held(tmp_path / "run")
    assert command.main() == 1
    assert capsys.readouterr().err == (
        f"kd3d-train: {tmp_path}/run is in use by another kd3d-train: wait for it, or give another "
        "`out`\n"
    )
    first.kill()
    first.wait()
    assert command.main() == 1
    assert "in use" not in capsys.readouterr().err


@pytest.mark.slow
def test_processes_of_one_run_dont_refuse_each_other(tmp_path, held, street, small_model):
    path = write_run(tmp_path, street, small_model)
    words = [*TORCHRUN, "-m", "kd3d_core.cli.train", str(path)]
    log = tmp_path / "log"
    first = held(tmp_path / "run")
    assert start(words, log).wait(LIMIT_S) != 0
    assert "run is in use by another kd3d-train" in log.read_text()
    first.kill()
    first.wait()
    assert start(words, log).wait(LIMIT_S) == 0, log.read_text()
    assert (tmp_path / "run" / "latest").is_dir()
