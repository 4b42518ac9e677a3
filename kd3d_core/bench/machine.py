"""What a benchmark ran on, and the memory that it took."""

import os
import platform
import resource
from pathlib import Path
from typing import Any

import torch


def machine_report(device: torch.device) -> dict[str, Any]:
    """Name of the GPU, or of the CPU with the number of threads and how they wait; and versions."""
    threads = torch.get_num_threads()
    wait = os.environ.get("OMP_WAIT_POLICY", "")
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{_cpu_name()}, {threads} of {len(os.sched_getaffinity(0))} CPUs, {wait.lower()}"
    )
    return {
        "name": name, "device": device.type, "torch": torch.__version__, "threads": threads,
        "OMP_WAIT_POLICY": wait, "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", ""),
    }  # fmt: skip


def peak_memory_gib(device: torch.device) -> float:
    """Of the GPU, or of the process, until now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
