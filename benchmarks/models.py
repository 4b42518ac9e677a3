"""Size of the models in config/models, what an image costs, and how long each stage of it takes.

    .venv/bin/python benchmarks/models.py
    .venv/bin/python benchmarks/models.py --models cmkd_kitti --device cuda --frames 200

Weights are random, which changes no time. Models whose architecture comes with their weights
(`depth.type: auto`) are left out, and so are those that read LiDAR. Each model runs in a process of
its own, so that its memory is its own.
"""

import resource
import statistics
import sys
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from machine import device_name
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from kd3d_core.cli.app import run
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.build import make_model
from kd3d_core.models.config import PseudoLidarModelConfig, load_model_config
from kd3d_core.runtime.pipeline import CameraDetector

WIDTH, HEIGHT, FOCAL = 1242, 375, 721.5


def measure(
    models: list[str] = ["lite", "cmkd_lite", "cmkd_study", "mvxnet_kitti"],  # noqa: B006 - never changed
    *,
    device: str = "cpu",
    frames: int = 10,
) -> None:
    """Time each stage.

    Args:
        models: names in config/models, or YAML files.
        device: cpu, cuda or cuda:N.
        frames: images per model, after two to warm up.
    """
    table = Table(
        "model", "depth", "detector", "GFLOP", "stage: median ms", "total", "peak memory",
        title=f"{WIDTH} x {HEIGHT}, {device_name(device)}",
    )  # fmt: skip
    for name in models:
        with get_context("spawn").Pool(1) as pool:
            table.add_row(name, *pool.apply(measure_one, (name, device, frames)))
    Console().print(table)


def measure_one(name: str, device: str, frames: int) -> tuple[str, ...]:
    """The cells of a model's row."""
    config: Any = load_model_config(name)
    config = replace(config, detector=config.detector.with_weights("random"))
    depth = "in the detector"
    if isinstance(config, PseudoLidarModelConfig):
        config = replace(config, depth=replace(config.depth, weights="random"))
    model = make_model(config, torch.device(device))
    if isinstance(config, PseudoLidarModelConfig):
        depth = _millions(model.pseudo_lidar.network)  # type: ignore[attr-defined]
    detector = CameraDetector(model, device)
    projection = np.array([[FOCAL, 0, WIDTH / 2, 0], [0, FOCAL, 0.46 * HEIGHT, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, WIDTH, HEIGHT, virtual_lidar_from_camera(1.65))
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    before = _peak_memory(device)
    with FlopCounterMode(display=False) as counter:
        detector(image, camera)
    rows = [detector(image, camera).timings for _ in range(frames + 1)][1:]
    stages = {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}
    return (
        depth,
        _millions(model.detector),
        f"{counter.get_total_flops() / 1e9:.0f}",
        ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items()),
        f"{statistics.median(sum(row.values()) for row in rows):.0f} ms",
        f"{_peak_memory(device) - before:.2f} GiB",
    )


def _peak_memory(device: str) -> float:
    """GiB: of the GPU, or of the process."""
    if "cuda" in device:
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="models.py",
            description="Size, cost and speed of the models.",
            examples=[
                "benchmarks/models.py", "benchmarks/models.py --models cmkd_kitti --device cuda"
            ],
        )
    )  # fmt: skip
