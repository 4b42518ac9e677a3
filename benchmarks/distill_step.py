"""What a training step with a teacher costs beside one without: asked live, and cached on disk.

    .venv/bin/python benchmarks/distill_step.py --data ../shared/data/kitti_tracking_0001
    .venv/bin/python benchmarks/distill_step.py --data ~/kitti --model mvxnet_kitti --device cuda

The three take their steps in turn, on the same frames, so that whatever else the machine does
slows them alike; the ratio is what counts. A live teacher's cost lies in the step, the cache's in
loading, so the ratio of both together is given as well; with workers that load while a step is
taken, only the step's counts. On a CPU, CPU time is given beside time by the clock.
Memory is measured afterwards, each in a process of its own. All weights are random, the student
reads the true points as its teacher does, and nothing is augmented. The cache is made anew and
thrown away.
"""

import multiprocessing
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kd3d_core.cli.app import run
from kd3d_core.data.batch import collate
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.distill.config import DistillConfig, FeatureConfig, Place, TeacherConfig
from kd3d_core.distill.schedule import Phase
from kd3d_core.training.config import DataConfig, TrainConfig
from kd3d_core.training.loop import Task
from kd3d_core.training.tasks import make_task

KINDS = ("control", "live", "cache")
WARM_UP = 1


@dataclass(frozen=True)
class Setting:
    """What is measured; see `measure`."""

    data: str
    names: str
    model: str
    teacher: str
    places: tuple[Place, ...]
    batch_size: int
    device: str
    precision: str

    def task(self, kind: str) -> Task:
        """One of `KINDS`."""
        control = TrainConfig(
            task="detector", model=self.model, data=DataConfig(self.data, self.names), out="unused",
            batch_size=self.batch_size,
        )  # fmt: skip
        if kind == "control":
            return make_task(control)
        phases = (Phase(1, {"det": 1.0, "feat": 2.0, "logit": 1.0}),)
        return make_task(
            replace(
                control, task="distill", teacher=TeacherConfig(self.teacher, cache=kind == "cache"),
                distill=DistillConfig(phases, FeatureConfig(self.places), start="model"),
            )
        )  # fmt: skip


class Steps:
    """Training steps of a task."""

    def __init__(self, setting: Setting, kind: str) -> None:
        self._setting = setting
        self._device = torch.device(setting.device)
        self._task = setting.task(kind)
        self._model = self._task.model.to(self._device).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-5)

    def __call__(self, number: int) -> dict[str, float]:
        """Milliseconds of loading the frames of a step, and of taking it."""
        samples, size = self._task.samples, self._setting.batch_size
        times: dict[str, float] = {}
        with self._timed(times, "data"):
            indices = [(number * size + row) % len(samples) for row in range(size)]
            batch = collate([samples[index] for index in indices])
        bf16 = self._setting.precision == "bf16"
        with self._timed(times, "step"):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16):
                losses = self._model(batch.to(self._device))
            self._optimizer.zero_grad(set_to_none=True)
            sum(losses.values()).backward()
            self._optimizer.step()
        return times

    @contextmanager
    def _timed(self, times: dict[str, float], name: str) -> Iterator[None]:
        began, cpu = time.perf_counter(), time.process_time()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        times[name] = 1000 * (time.perf_counter() - began)
        times[f"{name} CPU"] = 1000 * (time.process_time() - cpu)


def measure(
    *,
    data: Path = Path("../shared/data/kitti_tracking_0001"),
    model: str = "lite",
    teacher: str = "",
    places: list[str] = ["neck"],  # noqa: B006 - never changed
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    batch_size: int = 2,
    steps: int = 10,
    frames: int = 8,
) -> None:
    """Time steps in turn, then measure memory.

    Args:
        data: folder in KITTI's layout, with labels and velodyne.
        model: of the student, a name in config/models or a YAML file.
        teacher: the same for the teacher; default: as the student.
        places: whose features are compared: voxels, backbone, neck.
        device: cpu, cuda or cuda:N.
        precision: of the networks in a step.
        batch_size: frames per step.
        steps: of each, after one to warm up.
        frames: of the data, over and over.
    """
    with TemporaryDirectory() as folder:
        os.environ["KD3D_CACHE"] = folder
        names = Path(folder) / "names.txt"
        names.write_text("\n".join(KittiDataset(data).names[:frames]))
        setting = Setting(
            str(data), str(names), model, teacher or model, tuple(places), batch_size, device,
            precision,
        )  # fmt: skip
        rows = _in_turn(setting, steps)
        files = [path for path in Path(folder, "teacher").rglob("*.*") if "empty" not in path.name]
        stored = sum(path.stat().st_size for path in files) / frames
        _print_times(rows, setting)
        print(f"the cache holds {stored / 1e6:.2f} MB per frame", flush=True)
        for kind in KINDS:
            print(f"{kind}: {_in_own_process(setting, kind):.2f} GiB at most", flush=True)


def _print_times(rows: dict[str, list[dict[str, float]]], setting: Setting) -> None:
    """Medians, and those of each step's ratio to the control's beside it."""
    both = ["data", "step"]
    unit = "ms" if "cuda" in setting.device else "ms (CPU ms)"
    table = Table(
        "", f"data, {unit}", f"step, {unit}", "step / control", "data + step / control",
        title=f"{setting.model}, {setting.batch_size} frames per step, {setting.precision}, "
        f"{_machine(setting.device)}",
    )  # fmt: skip
    for kind, mine in rows.items():
        middle = {name: statistics.median(row[name] for row in mine) for name in mine[0]}
        cells = [
            f"{middle[name]:.0f}"
            + ("" if "cuda" in setting.device else f" ({middle[f'{name} CPU']:.0f})")
            for name in both
        ]
        ratios = [_ratios(rows, kind, parts, setting.device) for parts in (["step"], both)]
        table.add_row(kind, *cells, *ratios)
    Console(width=100).print(table)


def _in_turn(setting: Setting, count: int) -> dict[str, list[dict[str, float]]]:
    steps = {kind: Steps(setting, kind) for kind in KINDS}
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for number in track(range(WARM_UP + count), "steps", transient=True):
        for kind, step in steps.items():
            times = step(number)
            if number >= WARM_UP:
                rows[kind].append(times)
    return rows


def _ratios(
    rows: dict[str, list[dict[str, float]]], kind: str, parts: Sequence[str], device: str
) -> str:
    """Medians over the steps of how much longer some parts took than the control's beside them."""
    clocks = ("",) if "cuda" in device else ("", " CPU")
    pairs = list(zip(rows[kind], rows["control"], strict=True))
    found = [
        statistics.median(
            sum(row[part + clock] for part in parts) / sum(control[part + clock] for part in parts)
            for row, control in pairs
        )
        for clock in clocks
    ]
    return " (".join(f"{ratio:.2f}" for ratio in found) + ")" * (len(found) - 1)


def _in_own_process(setting: Setting, kind: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (setting, kind))


def _peak_memory(setting: Setting, kind: str) -> float:
    """GiB that two steps need at most: of the GPU if there is one, else of the process."""
    step = Steps(setting, kind)
    for number in range(2):
        step(number)
    if "cuda" in setting.device:
        return torch.cuda.max_memory_allocated(setting.device) / 2**30
    # Not `ru_maxrss`, which in a new process begins with that of the one that started it.
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 2**20


def _machine(device: str) -> str:
    if "cuda" in device:
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="distill_step.py",
            description="Speed and memory of a step with a teacher, live and cached.",
            examples=[
                "benchmarks/distill_step.py --steps 20 --precision bf16",
                "benchmarks/distill_step.py --places voxels backbone neck",
            ],
        )
    )
