"""Speed and memory of kd3d-extract, beside the loop that one would write without it.

    python benchmarks/extract.py
    python benchmarks/extract.py --sizes 200 500 1000 --workers 2 --repeats 3
    python benchmarks/extract.py --sizes 500 2000 20000 --every 10 --memory

Bags of these sizes in MB are made of frames of 1242 x 375 pixels and 115,000 points. Each is read
by `kd3d-extract` and by a plain loop in one process: rosbags reads messages, the latest image of
each scan is taken, OpenCV writes it as PNG with its defaults, NumPy the points. kd3d-extract does
more: it reads the bag once before, checks, matches, computes checksums and draws a report. Both
begin with a start of Python. They take turns, and of the repeats the fastest counts. On a machine
that does something else as well, the seconds of CPU say more: halved, those of two processes are
the least that they can take. Memory is the sum over all processes, shared pages counted once.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from kd3d_core.cli.app import run
from kd3d_core.data.bag import BagWriter
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.types import CameraInfo, Image, PointCloud, Transform, Transforms

HEIGHT, WIDTH, POINTS = 375, 1242, 115_000
START_NS, PERIOD_NS = 1_700_000_000 * 10**9, 10**8
DIFFERENT = 20  # frames, which come again and again
EVERY_S = 0.2

PLAIN_LOOP = """
import sys
from pathlib import Path
import cv2
import numpy as np
from rosbags.highlevel import AnyReader

bag, out = Path(sys.argv[1]), Path(sys.argv[2])
for part in ("image_2", "velodyne"):
    (out / part).mkdir(parents=True)
number, image = 0, None
with AnyReader([bag]) as reader:
    wanted = [each for each in reader.connections if each.topic in ("/camera/image_raw", "/points")]
    for connection, stamp, raw in reader.messages(wanted):
        message = reader.deserialize(raw, connection.msgtype)
        if connection.topic == "/camera/image_raw":
            image = message.data.reshape(message.height, message.width, 3)
        elif image is not None:
            cv2.imwrite(str(out / "image_2" / f"{number:06d}.png"), image[..., ::-1])
            message.data.view(np.float32).reshape(-1, 4).tofile(
                out / "velodyne" / f"{number:06d}.bin")
            number += 1
"""


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds by the clock, seconds of CPU, and MiB at most."""

    wall_s: float
    cpu_s: float
    memory_mib: float


def benchmark(
    sizes: list[str] = ["200", "500", "1000"],  # noqa: B006
    workers: int = 2,
    repeats: int = 1,
    every: int = 1,
    memory: bool = False,
) -> None:
    """Make bags, extract them both ways, and print what it took.

    Args:
        sizes: sizes of the bags, MB.
        workers: processes of kd3d-extract.
        repeats: number of runs of each.
        every: kd3d-extract takes each N-th frame only, which saves the disk's room.
        memory: run kd3d-extract alone, for its memory.
    """
    title = f"{workers} processes of kd3d-extract; ratio: the plain loop's time by kd3d's"
    table = Table(
        *("bag MB", "frames", "plain s (CPU)", "kd3d s (CPU)", "ratio", "plain MiB", "kd3d MiB"),
        *("plain MB out", "kd3d MB out"),
        title=title,
    )
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="kd3d-benchmark-") as folder:
            bag = Path(folder) / "bag"
            frames = write_bag(bag, int(size))
            loop = [sys.executable, "-c", PLAIN_LOOP, str(bag), f"{folder}/plain"]
            command = [sys.executable, "-m", "kd3d_core.cli.extract", str(bag)]
            command += ["--out", f"{folder}/out", "--workers", str(workers)]
            command += ["--every", str(every)]
            if memory:
                spent = cost(command)
                print(
                    f"{size} MB, {frames} frames, --every {every}: {spent.memory_mib:.0f} MiB, "
                    f"{spent.wall_s:.0f} s ({spent.cpu_s:.0f} s of CPU)",
                    flush=True,
                )
                continue
            found = []
            for _ in range(repeats):
                for output in ("plain", "out"):
                    shutil.rmtree(Path(folder) / output, ignore_errors=True)
                found.append((cost(loop), cost(command)))
                check(Path(folder), frames)
            plain, ours = (
                min(each, key=lambda cost: cost.wall_s) for each in zip(*found, strict=True)
            )
            written = [megabytes_in(Path(folder) / output) for output in ("plain", "out/training")]
        table.add_row(
            size,
            str(frames),
            f"{plain.wall_s:.1f} ({plain.cpu_s:.1f})",
            f"{ours.wall_s:.1f} ({ours.cpu_s:.1f})",
            f"{plain.wall_s / ours.wall_s:.2f}",
            f"{plain.memory_mib:.0f}",
            f"{ours.memory_mib:.0f}",
            *(f"{each:.0f}" for each in written),
        )
    if table.rows:
        Console().print(table)


def write_bag(path: Path, megabytes: int) -> int:
    """A bag of about this size; returns the number of its frames."""
    pose = virtual_lidar_from_camera(1.65)
    projection = np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, WIDTH, HEIGHT, pose)
    images = [picture(number) for number in range(DIFFERENT)]
    clouds = [cloud(number) for number in range(DIFFERENT)]
    frames = round(megabytes * 1e6 / (images[0].nbytes + clouds[0].nbytes))
    topics: dict[str, type] = {
        "/tf_static": Transforms,
        "/camera/camera_info": CameraInfo,
        "/camera/image_raw": Image,
        "/points": PointCloud,
    }
    with BagWriter(path) as writer:
        for topic, kind in topics.items():
            writer.add_topic(topic, kind.ros_type)
        static = Transforms((Transform(START_NS, "lidar", "camera", pose),))
        writer.write("/tf_static", START_NS, static)
        for number in range(frames):
            stamp = START_NS + number * PERIOD_NS
            image = Image.from_rgb(images[number % DIFFERENT], stamp, "camera")
            points = PointCloud(stamp, "lidar", clouds[number % DIFFERENT])
            info = CameraInfo.of_camera(camera, stamp, "camera")
            writer.write("/camera/camera_info", stamp, info)
            writer.write("/camera/image_raw", stamp, image)
            writer.write("/points", stamp, points)
    return frames


def picture(seed: int) -> np.ndarray:
    """Surfaces, their borders, and the noise of a sensor; packs about as well as KITTI's images."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (24, 80, 3), np.uint8)
    large = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    large[:, :, :] += rng.normal(0, 2.5, (HEIGHT, WIDTH, 3))
    return large.clip(0, 255).astype(np.uint8)


def cloud(seed: int) -> np.ndarray:
    """Points all around."""
    rng = np.random.default_rng(seed)
    spread = np.array([40, 40, 1.5, 0.5], np.float32)
    offset = np.array([0, 0, 0, 0.5], np.float32)
    return rng.uniform(-1, 1, (POINTS, 4)).astype(np.float32) * spread + offset


def cost(command: list[str]) -> Cost:
    """Run a command, and watch the processes that it starts."""
    start, most, cpu = time.perf_counter(), 0.0, {0: 0.0}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            memory = 0.0
            try:
                parent = psutil.Process(process.pid)
                for each in (parent, *parent.children(recursive=True)):
                    memory += each.memory_full_info().pss / 2**20
                    times = each.cpu_times()
                    cpu[each.pid] = times.user + times.system
            except psutil.Error:
                continue  # one of them has just ended
            most = max(most, memory)
            time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(time.perf_counter() - start, sum(cpu.values()), most)


def check(folder: Path, frames: int) -> None:
    """Both have written all frames, the same points, and the same pixels."""
    for number in (0, frames - 1):
        name = f"velodyne/{number:06d}.bin"
        ours, plain = folder / "out" / "training" / name, folder / "plain" / name
        assert ours.read_bytes() == plain.read_bytes(), name
        name = f"image_2/{number:06d}.png"
        ours, plain = folder / "out" / "training" / name, folder / "plain" / name
        assert np.array_equal(cv2.imread(str(ours)), cv2.imread(str(plain))), name


def megabytes_in(folder: Path) -> float:
    """Size of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(
        run(
            benchmark,
            prog="benchmarks/extract.py",
            description="Speed and memory of kd3d-extract.",
            examples=["python benchmarks/extract.py --sizes 200 500 1000"],
        )
    )
