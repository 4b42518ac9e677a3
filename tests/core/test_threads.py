"""What OpenMP reads when torch loads it: threads that sleep, as many as there are CPUs for them."""

import os
import subprocess
import sys

import pytest
import torch

from kd3d_core.threads import allowed_cpus, share_machine, use_threads

NAMES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")


def runtime_settings(**environment: str) -> str:
    """What the OpenMP runtime says that it took, with torch imported by a module of kd3d."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", "import kd3d_core.runtime.timing"],
        env=kept | {"OMP_DISPLAY_ENV": "VERBOSE"} | environment,
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return done.stderr.replace("'", "")


def test_threads_wait_asleep():
    assert "GOMP_SPINCOUNT = 0\n" in runtime_settings()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY = ACTIVE\n"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = 77\n"),
    ],
)
def test_the_environment_wins(given, taken):
    assert taken in runtime_settings(**given)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path, files, cpus):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert allowed_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("given", "taken"), [(None, "2"), ("7", "7")])
def test_as_many_threads_as_a_container_may_use(tmp_path, monkeypatch, given, taken):
    (tmp_path / "cpu.max").write_text("200000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    monkeypatch.setattr(os, "environ", {} if given is None else {"OMP_NUM_THREADS": given})
    share_machine(tmp_path)
    assert os.environ == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": taken}


def test_a_setting_wins_over_all():
    before = torch.get_num_threads()
    try:
        use_threads(3)
        use_threads(0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
