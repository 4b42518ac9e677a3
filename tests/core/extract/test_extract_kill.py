"""Extractions that are killed at any moment and go on."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_recording import drive, tree, write

KILLS = 20
LIMIT_S = 120


def start(bag: Path, out: Path) -> subprocess.Popen[bytes]:
    command = ["-m", "kd3d_core.cli.extract", str(bag), "--out", str(out), "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def count(out: Path) -> int:
    return sum(1 for path in out.rglob("*") if path.is_file())


@pytest.mark.slow
def test_the_end_is_the_same_after_twenty_kills(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", drive(300))
    assert start(bag, tmp_path / "whole").wait(LIMIT_S) == 0
    total = count(tmp_path / "whole")
    rng = random.Random(0)
    out, killed = tmp_path / "out", 0
    for goal in sorted(rng.sample(range(total), KILLS)):
        process = start(bag, out)
        deadline = time.monotonic() + LIMIT_S
        while process.poll() is None and count(out) < goal:
            assert time.monotonic() < deadline
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        killed += process.wait() != 0
    assert killed >= KILLS // 2  # some were faster
    assert start(bag, out).wait(LIMIT_S) == 0
    assert tree(out) == tree(tmp_path / "whole")
