"""How many threads a process computes with, and what they do while they wait.

By default OpenMP's threads spin until the next piece of work, on all CPUs that they see. That costs
torch several times the CPU time of its work, and as soon as anything else runs several times the
time by the clock (docs/performance.md). So they sleep instead, and are as many as a container may
use. The runtime reads both when torch is imported: `kd3d_core` asks for them before that, and what
the environment says already wins.
"""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def share_machine(root: Path = _CGROUP) -> None:
    """Set what OpenMP and the libraries for matrices will read, unless the user has.

    Args:
        root: where the kernel says how much of the machine this process may use.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    allowed = allowed_cpus(root)
    if allowed is not None and allowed < len(os.sched_getaffinity(0)):
        os.environ.setdefault("OMP_NUM_THREADS", str(allowed))


def allowed_cpus(root: Path = _CGROUP) -> int | None:
    """How many CPUs the container's quota allows, rounded up; None without one.

    With more threads than that the kernel stops all of them for a part of every tenth of a second.
    """
    quotas = []
    if (file := root / "cpu.max").is_file():  # version 2
        quotas = file.read_text().split()
    elif (file := root / "cpu" / "cpu.cfs_quota_us").is_file():  # version 1
        quotas = [file.read_text(), (file.parent / "cpu.cfs_period_us").read_text()]
    try:
        quota, period = map(int, quotas)
    except ValueError:  # "max", or no file
        return None
    return math.ceil(quota / period) if quota > 0 and period > 0 else None


def use_threads(count: int) -> None:
    """Let torch compute with that many threads from now on; 0 leaves it as it is."""
    if count:
        import torch

        torch.set_num_threads(count)
