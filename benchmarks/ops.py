"""Time of each op of kd3d_core.ops at the sizes that MVX-Net gives them.

    python benchmarks/ops.py
    python benchmarks/ops.py --device cuda --repeats 50

Prints the median of the repeats, in milliseconds, after one call that is not counted.
"""

import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from kd3d_core import ops
from kd3d_core.cli.app import run
from kd3d_core.detectors.sparse import SparseEncoder

VOXEL_SIZE = (0.05, 0.05, 0.1)
RANGE = (0.0, -40.0, -3.0, 70.4, 40.0, 1.0)
GRID_SHAPE = (40, 1600, 1408)
POINT_CHANNELS = 128
SUBMANIFOLD = ((41, 1600, 1408), (3, 3, 3))
STRIDED = ((41, 1600, 1408), (3, 3, 3), (2, 2, 2), (1, 1, 1))


def benchmark(device: str = "auto", repeats: int = 10, threads: int = 1) -> None:
    """Time the ops.

    Args:
        device: cpu, cuda, or auto for cuda where there is one.
        repeats: calls per op.
        threads: CPU threads.
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {threads} thread(s)"
    cases = make_cases(torch.device(device))
    table = Table("op", "size", "median ms", title=f"kd3d_core.ops on {name}")
    for label, size, call in cases:
        table.add_row(label, size, f"{median_ms(call, repeats, device):.2f}")
    Console().print(table)


def make_cases(device: torch.device) -> list[tuple[str, str, Callable[[], object]]]:
    """Label, size and call of everything that is timed."""
    points = scan().to(device)
    coords = ops.dynamic_voxelize(points, VOXEL_SIZE, RANGE)
    sites = nn.functional.pad(coords[coords[:, 0] >= 0].unique(dim=0), (1, 0))
    features = torch.randn(len(sites), POINT_CHANNELS, device=device)
    weight = torch.randn(3, 3, 3, POINT_CHANNELS, 16, device=device)
    submanifold = ops.submanifold_rulebook(sites, *SUBMANIFOLD)
    boxes, scores = random_boxes(1000, device)
    encoder = SparseEncoder(POINT_CHANNELS, GRID_SHAPE).to(device)
    encoder_input = features.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return encoder(encoder_input, sites, 1)

    def forward_and_backward() -> None:
        encoder(encoder_input, sites, 1).square().mean().backward()

    scanned, occupied = f"{len(points)} points", f"{len(sites)} voxels"
    return [
        ("dynamic_voxelize", scanned, lambda: ops.dynamic_voxelize(points, VOXEL_SIZE, RANGE)),
        ("hard_voxelize", scanned, lambda: ops.hard_voxelize(points, VOXEL_SIZE, RANGE, 5, 16000)),
        ("submanifold_rulebook", occupied, lambda: ops.submanifold_rulebook(sites, *SUBMANIFOLD)),
        ("strided_rulebook", occupied, lambda: ops.strided_rulebook(sites, *STRIDED)),
        (
            "sparse_conv3d",
            f"{occupied}, {POINT_CHANNELS} -> 16",
            lambda: ops.sparse_conv3d(features, weight, submanifold),
        ),
        ("SparseEncoder forward", occupied, forward),
        ("SparseEncoder forward + backward", occupied, forward_and_backward),
        ("box_iou_rotated", "1000 x 1000", lambda: ops.box_iou_rotated(boxes, boxes)),
        ("nms_rotated", "1000 boxes", lambda: ops.nms_rotated(boxes, scores, 0.01)),
        (
            "nms_rotated_mask",
            "100 boxes, 3 classes",
            lambda: ops.nms_rotated_mask(boxes[:100], scores[:300].view(3, 100), 0.01),
        ),
    ]


def scan() -> Tensor:
    """A 64-beam scan of flat ground and walls, 80 degrees wide: (N, 4) x, y, z, intensity."""
    azimuth = torch.deg2rad(torch.arange(-40, 40, 0.18))
    elevation = torch.deg2rad(torch.linspace(-24.8, 2.0, 64))[:, None]
    wall = (torch.rand(len(azimuth) // 20 + 1) * 50 + 8).repeat_interleave(20)[: len(azimuth)]
    ground = torch.where(elevation < 0, -1.73 / elevation.sin(), math.inf)
    distance = torch.minimum(ground, wall / elevation.cos()) + torch.randn(64, len(azimuth)) * 0.02
    flat = distance * elevation.cos()
    xyz = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), distance * elevation.sin()], -1)
    points = torch.cat([xyz, torch.rand(64, len(azimuth), 1)], dim=-1).flatten(0, 1)
    return points[torch.randperm(len(points))]


def random_boxes(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cars around a few dozen places, as a detector proposes them: boxes (N, 5), scores (N,)."""
    place = torch.rand(40, 2)[torch.arange(count) % 40] * 70
    centre = place + torch.randn(count, 2) * 0.3
    size = torch.tensor([3.9, 1.6]) + torch.randn(count, 2) * 0.2
    boxes = torch.cat([centre, size, torch.randn(count, 1)], dim=1)
    return boxes.to(device), torch.rand(count, device=device)


def median_ms(call: Callable[[], object], repeats: int, device: str) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])


if __name__ == "__main__":
    sys.exit(
        run(
            benchmark,
            prog="benchmarks/ops.py",
            description="Time each op of kd3d_core.ops at the sizes that MVX-Net gives them.",
            examples=["python benchmarks/ops.py", "python benchmarks/ops.py --device cuda"],
        )
    )
