"""Chains from an image to boxes, timed in turn, so that what else runs meets all of them alike."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from kd3d_core.bench.report import OURS, Report
from kd3d_core.geometry.camera import PinholeCamera

WARM_UP = 2


class Frame(NamedTuple):
    """An image `(H, W, 3)` uint8 RGB and its camera."""

    image: np.ndarray
    camera: PinholeCamera


Chain = Callable[[Frame], Mapping[str, float]]
"""Detects in a frame; milliseconds of its stages."""


@dataclass(frozen=True)
class Times:
    """Of one chain, each list a number per frame.

    Attributes:
        stages: milliseconds by the clock, by stage.
        cpu: milliseconds that all of the process's threads computed.
    """

    stages: dict[str, list[float]]
    cpu: list[float]

    @property
    def total(self) -> list[float]:
        """Milliseconds by the clock, end to end."""
        return [sum(parts) for parts in zip(*self.stages.values(), strict=True)]


def time_in_turn(
    chains: Mapping[str, Chain], frames: Sequence[Frame], rounds: int
) -> dict[str, Times]:
    """Run every chain once per round, after `WARM_UP` rounds that don't count."""
    stages: dict[str, list[Mapping[str, float]]] = {name: [] for name in chains}
    cpu: dict[str, list[float]] = {name: [] for name in chains}
    for number in range(WARM_UP + rounds):
        for name, chain in chains.items():
            began = time.process_time()
            row = chain(frames[number % len(frames)])
            if number >= WARM_UP:
                stages[name].append(row)
                cpu[name].append((time.process_time() - began) * 1e3)
    return {
        name: Times({stage: [row[stage] for row in rows] for stage in rows[0]}, cpu[name])
        for name, rows in stages.items()
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile.

    >>> summary([1.0, 2.0, 3.0, 4.0, 5.0])
    {'median': 3.0, 'p95': 4.8}
    """
    return {
        "median": round(statistics.median(values), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
    }


def ratios(ours: Times, other: Times) -> dict[str, float]:
    """How many times as long the other chain takes: the median over the rounds.

    Of each stage and of all by the clock, and of the CPU time, on which other processes have the
    least influence.

    >>> ours = Times({"depth": [2.0, 3.0], "boxes": [1.0, 1.0]}, [3.0, 4.0])
    >>> ratios(ours, Times({"depth": [4.0, 6.0], "boxes": [1.0, 2.0]}, [6.0, 8.0]))
    {'depth': 2.0, 'boxes': 1.5, 'total': 1.833, 'cpu': 2.0}
    """
    pairs = {stage: (ours.stages[stage], other.stages[stage]) for stage in ours.stages}
    pairs |= {"total": (ours.total, other.total), "cpu": (ours.cpu, other.cpu)}
    return {
        name: round(statistics.median(b / a for a, b in zip(*both, strict=True)), 3)
        for name, both in pairs.items()
    }


def chains_report(times: Mapping[str, Times]) -> Report:
    """Milliseconds of each chain by stage, and of the others their ratios to ours."""
    report: Report = {"chains": {}, "ratios": {}}
    for name, chain in times.items():
        stages = {**chain.stages, "total": chain.total, "cpu": chain.cpu}
        report["chains"][name] = {stage: summary(ms) for stage, ms in stages.items()}
        if name != OURS:
            report["ratios"][name] = ratios(times[OURS], chain)
    return report


def count_flops(chain: Chain, frame: Frame) -> int:
    """Floating-point operations of products and convolutions in one frame."""
    with FlopCounterMode(display=False) as counter:
        chain(frame)
    return counter.get_total_flops()


def peak_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """The most operations a second that the device's matrix product does in that time."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until or best == float("inf"):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


@contextmanager
def beside_busy(count: int) -> Iterator[None]:
    """Let `count` processes compute meanwhile, as those of a robot do."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**5))"
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
