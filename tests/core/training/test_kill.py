"""Runs that are killed at any moment lose nothing but the time since their last checkpoint."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from kd3d_core.training import checkpoint, checkpoint_meta

STEPS = 24
ARGUMENTS = {
    "batch_size": "2", "epochs": str(STEPS // 3), "checkpoint_every": "1", "validate_every": "2",
    "precision": "fp32", "optimizer": "{lr: 1.0e-3, ema: 0.9}",
    "augment": "{rotation: 0.0, scale: [1.0, 1.0]}", "seed": "3",
}  # fmt: skip
LIMIT_S = 300


def weights(value: float) -> nn.Module:
    model = nn.Linear(3, 2)
    nn.init.constant_(model.weight, value)
    nn.init.constant_(model.bias, value)
    return model


def save_and_die(folder: Path, calls: int) -> bool:
    """Write checkpoint 2 in a process that is killed before its n-th call to the file system.

    Returns:
        Whether it was; False if it needed no more than `calls` calls.
    """
    child = os.fork()
    if child == 0:
        left = calls

        def die_in_time(call):
            def counted(*args, **kwargs):
                nonlocal left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return call(*args, **kwargs)

            return counted

        for owner, names in (
            (os, ("mkdir", "rename", "unlink", "rmdir", "fsync")),
            (checkpoint, ("save_file",)),
            (torch, ("save",)),
        ):
            for name in names:
                setattr(owner, name, die_in_time(getattr(owner, name)))
        checkpoint.save(folder, weights(2), {"step": 2}, {"step": 2})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("left_by_an_earlier_kill", [False, True])
def test_a_kill_at_any_call_while_writing_leaves_a_whole_checkpoint(
    tmp_path, left_by_an_earlier_kill
):
    seen, calls, killed = set(), 0, True
    while killed:
        folder = tmp_path / str(calls) / "latest"
        checkpoint.save(folder, weights(1), {"step": 1}, {"step": 1})
        if left_by_an_earlier_kill:
            folder.rename(folder.with_name("latest.old"))
        killed = save_and_die(folder, calls)
        found = checkpoint_meta.find(folder)
        assert found is not None, f"nothing is left of a kill at call {calls}"
        model = weights(0)
        state = checkpoint.load(found, model)
        assert state["step"] == checkpoint_meta.read_meta(found)["step"]
        assert torch.equal(model.weight, weights(state["step"]).weight)
        seen.add(state["step"])
        calls += 1
    assert calls > 8
    assert seen == {1, 2}
    assert not folder.with_name("latest.old").exists()


def command(street: Path, model: Path, out: Path, workers: int) -> list[str]:
    """`kd3d-train` on the depth network, with its configuration written beside `out`."""
    path = out.with_suffix(".yaml")
    path.write_text(f"task: depth\nmodel: {model}\nout: {out}\ndata: {{root: {street}}}\n")
    settings = [word for key, value in ARGUMENTS.items() for word in (f"--{key}", value)]
    return [
        sys.executable, "-m", "kd3d_core.cli.train", str(path), *settings,
        "--workers", str(workers),
    ]  # fmt: skip


def steps_taken(out: Path) -> int:
    found = checkpoint_meta.find(out / "latest")
    return checkpoint_meta.read_meta(found)["step"] if found else 0


def run_until(words: list[str], out: Path, step: int, delay_s: float) -> bool:
    """Start a run and kill it a moment after the checkpoint of a step; False if it had ended."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)
    try:
        ends = time.monotonic() + LIMIT_S
        while process.poll() is None and steps_taken(out) < step:
            assert time.monotonic() < ends, f"no step {step} within {LIMIT_S} s"
            time.sleep(0.002)
        time.sleep(delay_s)
        finished = process.poll()
    finally:
        process.kill()
        _, words_said = process.communicate()
    assert finished in (None, 0), words_said.decode()
    return finished is None


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_killed_again_and_again_ends_bit_for_bit_like_one_that_was_not(
    tmp_path, street, small_model, workers
):
    seed = random.randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert not run_until(command(street, small_model, whole, workers), whole, STEPS + 1, 0)

    words = command(street, small_model, parts, workers)
    kills = []
    while (done := steps_taken(parts)) < STEPS:
        step, delay = rng.randint(done + 1, min(done + 12, STEPS)), rng.uniform(0, 0.2)
        if run_until(words, parts, step, delay):
            kills.append((step, delay))
    print("killed after steps and seconds", kills)
    run_until(words, parts, STEPS + 1, 0)
    assert kills
    for name in ("latest", "best"):
        one, other = ((run / name / "model.safetensors").read_bytes() for run in (whole, parts))
        assert one == other
    one, other = (json.loads((run / "latest" / "meta.json").read_text()) for run in (whole, parts))
    assert one["metrics"] == other["metrics"]
    assert one["losses"] == other["losses"]
    shutil.rmtree(parts)
