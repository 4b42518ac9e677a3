"""Size of the models in config/models, and how long each stage of an image takes.

    .venv/bin/python benchmarks/models.py
    .venv/bin/python benchmarks/models.py --models lite --device cuda --frames 200

Weights are random, which changes no time. Models whose architecture comes with their weights
(`depth.type: auto`) are left out.
"""

import statistics
import sys
from dataclasses import replace

import numpy as np
import torch
from machine import device_name
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kd3d_core.cli.app import run
from kd3d_core.depth.glpn import random_glpn
from kd3d_core.detectors.build import random_detector
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.config import load_model_config
from kd3d_core.runtime.pipeline import CameraDetector

WIDTH, HEIGHT, FOCAL = 1242, 375, 721.5


def measure(
    models: list[str] = ["lite", "mvxnet_kitti"],  # noqa: B006 - never changed
    *,
    device: str = "cpu",
    frames: int = 10,
) -> None:
    """Time each stage.

    Args:
        models: names in config/models, or YAML files.
        device: cpu, cuda or cuda:N.
        frames: images per model, after three to warm up.
    """
    table = Table(
        "model", "depth", "detector", "stage: median ms", "total", "peak memory",
        title=f"{WIDTH} x {HEIGHT}, {device_name(device)}",
    )  # fmt: skip
    for name in models:
        config = load_model_config(name)
        config = replace(
            config,
            depth=replace(config.depth, weights="random"),
            detector=replace(config.detector, weights="random"),
        )
        depth = random_glpn(config.depth, config.seed).to(device)
        network = random_detector(config.detector, config.seed).to(device)
        detector = CameraDetector(config, depth, network, device)
        rows = _run(detector, name, frames)
        stages = {stage: statistics.median(row[stage] for row in rows) for stage in rows[0]}
        table.add_row(
            name,
            _millions(depth),
            _millions(network),
            ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items()),
            f"{statistics.median(sum(row.values()) for row in rows):.0f} ms",
            f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB"
            if "cuda" in device
            else "",
        )
    Console().print(table)


def _run(detector: CameraDetector, name: str, frames: int) -> list[dict[str, float]]:
    projection = np.array([[FOCAL, 0, WIDTH / 2, 0], [0, FOCAL, 0.46 * HEIGHT, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, WIDTH, HEIGHT, virtual_lidar_from_camera(1.65))
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    rows = [detector(image, camera).timings for _ in track(range(frames + 3), name, transient=True)]
    return rows[3:]


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.1f} M"


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="models.py",
            description="Size and speed of the models.",
            examples=["benchmarks/models.py", "benchmarks/models.py --models lite --device cuda"],
        )
    )
