"""Frames per second, the parts of a training step, and the memory that it needs.

    .venv/bin/python benchmarks/training_step.py
    .venv/bin/python benchmarks/training_step.py --models mvxnet_kitti --device cuda --batch-size 4
    .venv/bin/python benchmarks/training_step.py --models lite --precisions fp32 bf16

The detectors start from random weights and read the true LiDAR: that of a data set if one is given,
else clouds of KITTI's size, which are made up without a disk: their data times tell little.
"""

import itertools
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from kd3d_core.bench.machine import machine_report
from kd3d_core.cli.app import run
from kd3d_core.data.batch import Batch, Sample, collate
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.samples import FrameSamples
from kd3d_core.detectors.build import untrained_detector
from kd3d_core.devices import FixedPrecision, autocast
from kd3d_core.errors import Kd3dError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import load_model_config
from kd3d_core.training.detector_task import DetectorLosses

WIDTH, HEIGHT, FOCAL = 1242, 375, 721.5
POINTS, CARS = 19_000, 6
WARM_UP = 2


class RandomStreet(Dataset):
    """Frames of noise with ground, a scatter of obstacles and cars, of KITTI's sizes."""

    def __init__(self, window: WindowConfig, frames: int) -> None:
        projection = np.array(
            [[FOCAL, 0, WIDTH / 2, 0], [0, FOCAL, 0.46 * HEIGHT, 0], [0, 0, 1, 0]]
        )
        camera = PinholeCamera(projection, WIDTH, HEIGHT, virtual_lidar_from_camera(1.65))
        self._projection = torch.from_numpy(window.window(camera).camera(camera).image_from_lidar)
        self._size = window.size
        self._frames = frames

    def __len__(self) -> int:
        return self._frames

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        x = 4 * (65 / 4) ** rng.uniform(0, 1, POINTS)  # as dense as a rotating LiDAR's rings
        y = rng.uniform(-0.8, 0.8, POINTS) * x
        z = np.where(rng.uniform(0, 1, POINTS) < 0.6, -1.73, rng.uniform(-1.7, 0.8, POINTS))
        points = np.stack([x, y, z, rng.uniform(0, 1, POINTS)], 1).astype(np.float32)
        ahead = rng.uniform(8, 50, CARS)
        places = np.stack([ahead, rng.uniform(-0.5, 0.5, CARS) * ahead], 1)
        rest = np.tile([-1.73, 3.9, 1.6, 1.5], (CARS, 1))
        boxes = np.column_stack([places, rest, rng.uniform(-3, 3, CARS)]).astype(np.float32)
        image = rng.integers(0, 256, (3, *self._size)).astype(np.float32)
        return Sample(
            str(index), torch.from_numpy(image), self._projection.float(),
            torch.from_numpy(points), torch.from_numpy(boxes), torch.full((CARS,), 2),
        )  # fmt: skip


def measure(
    models: list[str] = ["lite", "mvxnet_kitti"],  # noqa: B006 - never changed
    *,
    device: str = "cpu",
    batch_size: int = 2,
    steps: int = 10,
    workers: int = 1,
    data: Path | None = None,
    precisions: list[str] = [],  # noqa: B006
) -> None:
    """Time each part of a step.

    Memory is that of the whole process on a CPU, so give one model at a time to tell them apart.

    Args:
        models: names in config/models, or YAML files.
        device: cpu, cuda or cuda:N.
        batch_size: frames per step.
        steps: steps per model, after two to warm up.
        workers: processes that load frames.
        data: folder in KITTI's layout; None makes frames up.
        precisions: precisions to compare in turn; default: bf16 on a GPU, fp32 on a CPU.
    """
    machine = machine_report(torch.device(device))["name"]
    table = Table(
        "model", "precision", "frames/s", "step: median ms", "peak memory",
        title=f"{batch_size} frames per step, {data or 'random frames'}, {machine}",
    )  # fmt: skip
    for name, precision in itertools.product(models, _known(precisions, device)):
        config = load_model_config(name).detector
        count = batch_size * (steps + WARM_UP)
        samples: Dataset = RandomStreet(config.window, count)
        if data is not None:
            frames = KittiDataset(data)
            samples = _Repeated(
                FrameSamples(frames, config.window, KittiFrame.points_in_view, config.classes),
                count,
            )
        loader = DataLoader(samples, batch_size, num_workers=workers, collate_fn=collate)
        detector = untrained_detector(replace(config, weights="random"), 0)
        rows = _run(DetectorLosses(detector), loader, torch.device(device), precision, name)
        parts = {part: statistics.median(row[part] for row in rows) for part in rows[0]}
        total = statistics.median(sum(row.values()) for row in rows)
        table.add_row(
            name,
            precision,
            f"{1000 * batch_size / total:.2f}",
            ", ".join(f"{part} {value:.0f}" for part, value in parts.items()),
            _peak_memory(device),
        )
    Console().print(table)


def _known(precisions: list[str], device: str) -> list[FixedPrecision]:
    known = get_args(FixedPrecision)
    if unknown := [word for word in precisions if word not in known]:
        raise Kd3dError(f"--precisions {unknown[0]}: give some of {', '.join(known)}")
    default: FixedPrecision = "bf16" if "cuda" in device else "fp32"
    return [precision for precision in known if precision in precisions] or [default]


class _Repeated(Dataset):
    """A data set's samples again and again."""

    def __init__(self, samples: FrameSamples, count: int) -> None:
        self._samples = samples
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index % len(self._samples)]


def _run(
    model: DetectorLosses,
    loader: DataLoader,
    device: torch.device,
    precision: FixedPrecision,
    name: str,
) -> list[dict[str, float]]:
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    batches: Iterator[Batch] = iter(loader)
    rows = []
    for _ in track(range(len(loader)), name, transient=True):
        row: dict[str, float] = {}
        batch = _timed(row, "data", device, lambda: next(batches).to(device))
        with autocast(precision, device):
            losses = _timed(row, "forward", device, lambda batch=batch: model(batch))
        loss = sum(losses.values())
        optimizer.zero_grad(set_to_none=True)
        _timed(row, "backward", device, loss.backward)
        _timed(row, "optimizer", device, optimizer.step)
        rows.append(row)
    return rows[WARM_UP:]


def _timed(row: dict[str, float], name: str, device: torch.device, call: Callable):
    began = time.perf_counter()
    answer = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    row[name] = (time.perf_counter() - began) * 1000
    return answer


def _peak_memory(device: str) -> str:
    if "cuda" in device:
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return f"{peak / 2**30:.2f} GiB of the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="training_step.py",
            description="Speed and memory of a training step.",
            examples=[
                "benchmarks/training_step.py --models lite --steps 20",
                "benchmarks/training_step.py --models mvxnet_kitti --device cuda",
            ],
        )
    )
