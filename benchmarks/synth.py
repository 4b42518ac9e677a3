"""Time of a synthetic frame, from its seed to its files, and of each stage of it.

    python benchmarks/synth.py
    python benchmarks/synth.py --frames 40 --workers 2

A frame is 1242 x 375 pixels with its LiDAR scan. The stages are timed in this process, in seconds
of its CPU time; the whole with `--workers` processes by the clock, their start not counted.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from kd3d_core.cli.app import run
from kd3d_core.data.synthetic.dataset import SynthConfig, write_dataset
from kd3d_core.data.synthetic.drive import Drive
from kd3d_core.data.synthetic.labels import make_labels
from kd3d_core.data.synthetic.lidar import scan
from kd3d_core.data.synthetic.picture import take_picture
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.rig import Rig

Result = TypeVar("Result")


def benchmark(frames: int = 20, workers: int = 2, seed: int = 0) -> None:
    """Time the stages, then the whole.

    Args:
        frames: how many are rendered, by each of the two ways.
        workers: processes of the second.
        seed: of the scenes.
    """
    seconds: dict[str, list[float]] = {}
    for index in range(frames):
        time_stages(index, seed, seconds)
    table = Table("stage", "median s", "mean s", title=f"{frames} scenes of seed {seed}, CPU time")
    for stage, values in seconds.items():
        table.add_row(stage, f"{statistics.median(values):.3f}", f"{statistics.mean(values):.3f}")
    total = [sum(values) for values in zip(*seconds.values(), strict=True)]
    table.add_row("all", f"{statistics.median(total):.3f}", f"{statistics.mean(total):.3f}")
    console = Console()
    console.print(table)
    rate = seconds_per_frame(SynthConfig(frames + workers, seed), workers)
    console.print(f"{workers} processes, with files: {rate:.2f} s per frame")


def time_stages(index: int, seed: int, seconds: dict[str, list[float]]) -> None:
    """Render a frame and append the CPU time of each stage."""

    def timed(stage: str, call: Callable[[], Result]) -> Result:
        start = time.process_time()
        result = call()
        seconds.setdefault(stage, []).append(time.process_time() - start)
        return result

    rig, config, rng = Rig(), SynthConfig(1, seed), np.random.default_rng(seed)
    drive = timed("street and traffic", lambda: Drive(np.random.SeedSequence((seed, index, 0))))
    moment = timed("moment", drive.moment)
    caster = timed("tree of triangles", lambda: RayCaster(moment.mesh.triangles))
    timed("picture", lambda: take_picture(moment, caster, rig.camera, rng, rng))
    timed("scan", lambda: scan(moment, caster, config.lidar, rng))
    timed("labels", lambda: make_labels(moment, caster, rig.rectified_camera))


def seconds_per_frame(config: SynthConfig, workers: int) -> float:
    """Wall time per frame of a data set, from when each process has written its first."""
    stamps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(
            config, Path(folder), workers, on_frame=lambda: stamps.append(time.perf_counter())
        )
    return (stamps[-1] - stamps[workers - 1]) / (len(stamps) - workers)


if __name__ == "__main__":
    sys.exit(
        run(
            benchmark,
            prog="benchmarks/synth.py",
            description="Time of a synthetic frame, and of each stage of it.",
            examples=["python benchmarks/synth.py", "python benchmarks/synth.py --frames 40"],
        )
    )
