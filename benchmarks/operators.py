"""Where the time of a frame goes: the operators that cost the most, and the waits of the host.

.venv/bin/python benchmarks/operators.py
    .venv/bin/python benchmarks/operators.py --device cuda --trace out/trace.json.gz
"""

import sys
from pathlib import Path

import numpy as np
from torch.profiler import ProfilerActivity, profile

from kd3d_core.bench.measure import WARM_UP
from kd3d_core.cli.app import run
from kd3d_core.devices import Precision
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.runtime.pipeline import CameraDetector

WIDTH, HEIGHT = 1242, 375


def measure(
    model: str = "demo",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    images: int = 20,
    rows: int = 30,
    trace: Path | None = None,
) -> None:
    """Profile a model on images of noise.

    Args:
        model: a name in config/models or weights, or a YAML file.
        device: auto, cpu, cuda or cuda:N.
        precision: number format of the networks.
        images: number of images that count, after some to warm up.
        rows: operators to list.
        trace: file for chrome://tracing or ui.perfetto.dev, .json or .json.gz.
    """
    detector = CameraDetector.from_config(model, device, precision)
    projection = np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, WIDTH, HEIGHT, virtual_lidar_from_camera(1.65))
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(WARM_UP):
        detector(image, camera)
    on_gpu = detector.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        for _ in range(images):
            detector(image, camera)
    events = profiler.key_averages()
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    print(events.table(sort_by=order, row_limit=rows, max_name_column_width=40))
    counts = {event.key: event.count / images for event in events}
    for name in ("cudaLaunchKernel", "cudaStreamSynchronize", "cudaMemcpyAsync"):
        if name in counts:
            print(f"{name}: {counts[name]:.1f} an image")
    if trace is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="benchmarks/operators.py",
            description="Where the time of a frame goes.",
            examples=[
                "benchmarks/operators.py",
                "benchmarks/operators.py --device cuda --images 100",
            ],
        )
    )
