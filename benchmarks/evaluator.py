"""Time and memory of `kd3d-eval kitti` on the recorded frames, once and several times over.

    python benchmarks/evaluator.py
    python benchmarks/evaluator.py --data ../shared/data/kitti_eval --copies 1 4 16

Writes the frames as KITTI folders, copied under new names, and runs the whole command on each in
a process of its own, start of Python and imports included; `evaluate` is the share of reading
and judging. Peak memory is the process's. Prints the best of the repeats.
"""

import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kd3d_core.cli.app import run
from kd3d_core.cli.table import print_table

_TIMED = """
import sys, time
from pathlib import Path
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.evaluation.kitti_files import read_frames
start = time.perf_counter()
frames = read_frames(Path(sys.argv[1]), Path(sys.argv[2]))
read = time.perf_counter()
evaluate(frames.ground_truth, frames.detections)
print(read - start, time.perf_counter() - read)
"""


def benchmark(
    data: Path = Path("../shared/data/kitti_eval"),
    copies: list[str] = ["1", "2", "4", "8"],  # noqa: B006 - never changed
    repeats: int = 3,
) -> None:
    """Time the evaluator.

    Args:
        data: folder with track_small_gt.txt.gz and track_small_det.txt.gz.
        copies: how many times the frames are taken, rising.
        repeats: runs of each, of which the best counts.
    """
    rows = [("frames", "command s", "read s", "evaluate s", "peak MiB")]
    for number in map(int, copies):
        with tempfile.TemporaryDirectory() as folder:
            labels, detections = Path(folder, "labels"), Path(folder, "detections")
            frames = _unpack(data / "track_small_gt.txt.gz", labels, number)
            _unpack(data / "track_small_det.txt.gz", detections, number)
            command = [*("-m", "kd3d_core.cli.eval", "kitti", "--labels", str(labels))]
            command += ["--detections", str(detections)]
            whole, reading, judging = [], [], []
            for _ in range(repeats):
                start = time.perf_counter()
                _python(*command)
                whole.append(time.perf_counter() - start)
                read, evaluate = _python("-c", _TIMED, str(labels), str(detections)).split()
                reading.append(float(read))
                judging.append(float(evaluate))
        # Of the largest child so far, which is the last as the numbers rise.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        times = (f"{min(times):.2f}" for times in (whole, reading, judging))
        rows.append((str(frames), *times, f"{peak:.0f}"))
    print_table(rows)


def _unpack(archive: Path, folder: Path, copies: int) -> int:
    """Write the lines of each frame to files of their own; returns how many files there are."""
    frames: dict[str, list[str]] = {}
    with gzip.open(archive, "rt") as lines:
        for line in lines:
            name, _, text = line.partition(" ")
            frames.setdefault(name, []).append(text)
    folder.mkdir()
    for copy in range(copies):
        for name, texts in frames.items():
            (folder / f"{copy}_{name}.txt").write_text("".join(texts))
    return len(frames) * copies


def _python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True
    ).stdout


if __name__ == "__main__":
    sys.exit(
        run(
            benchmark,
            prog="benchmarks/evaluator.py",
            description="Time and memory of the KITTI evaluator.",
            examples=["python benchmarks/evaluator.py --copies 1 4 16"],
        )
    )
