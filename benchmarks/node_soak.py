"""The node over a long time, or overloaded, or unwatched: memory, CPU, and how old results are.

    scripts/with-env python benchmarks/node_soak.py  # 30 min at 30 Hz
    scripts/with-env python benchmarks/node_soak.py --minutes 1 --detector-ms 500  # overload
    scripts/with-env python benchmarks/node_soak.py --minutes 1 --unwatched
    FASTDDS_DEFAULT_PROFILES_FILE= python benchmarks/node_soak.py --minutes 0.5 --rate 10 \\
        --width 1920 --height 1200 --reliable  # large images without a profile

The node runs in a process of its own, tracking, with a detector that always takes the same time;
this process is its camera, and an outside subscriber to its points, boxes and markers. Both have
the same clock. Needs Jazzy or later, which tell when DDS had a message.
"""

import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import rclpy
from node_messages import HEIGHT, WIDTH, SteadyDetector, camera_messages
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from kd3d_core.cli.app import run
from kd3d_core.errors import Kd3dError
from kd3d_core.files import write_whole
from kd3d_ros.detector_node import DetectorNode, main

_START_LIMIT_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def node_soak(
    minutes: float = 30.0,
    rate: float = 30.0,
    detector_ms: float = 5.0,
    unwatched: bool = False,
    width: int = WIDTH,
    height: int = HEIGHT,
    reliable: bool = False,
    csv: Path | None = None,
    plot: Path | None = None,
) -> None:
    """Send images to the node, and watch it.

    Args:
        minutes: length of the run, of whose memory the first sixth is left out.
        rate: images per second.
        detector_ms: time that the detector takes for an image.
        unwatched: subscribe to no result.
        width: width of the images, pixels.
        height: height of the images, pixels.
        reliable: publish them reliably; else with the best effort.
        csv: write the memory over time to this file.
        plot: write a picture of the memory to this file.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    node = subprocess.Popen([sys.executable, __file__, "--node", str(detector_ms)])
    try:
        camera = _Camera(width, height, rate, reliable)
        seen = _watch(node.pid, 60 * minutes, camera, watched=not unwatched)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(30)
    print(f"{minutes:g} min, {width} x {height} at {rate:g} Hz, detector {detector_ms:g} ms")
    for line in seen.lines(1e3 / rate):
        print(line)
    if csv is not None:
        rows = [f"{seconds:.1f},{memory:.2f}\n" for seconds, memory in seen.memory_mb]
        write_whole(csv, "".join(["seconds,memory_mb\n", *rows]).encode())
    if plot is not None:
        _plot(seen, plot)


@dataclass(frozen=True)
class _Camera:
    """What is sent, and how often in a second."""

    width: int
    height: int
    rate: float
    reliable: bool


@dataclass
class Seen:
    """What was seen from outside.

    Attributes:
        memory_mb: seconds since the start, and the node's resident memory then.
        cpu: share of a core that the node took.
        sent: images.
        age_ms: time from the stamp of each result to the arrival of its boxes in DDS here.
        latency_ms: the same as the node reports it.
        processing_ms: time from an image's arrival to its last result, as the node reports it.
    """

    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    cpu: float = 0.0
    sent: int = 0
    age_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    processing_ms: list[float] = field(default_factory=list)

    def growth(self) -> float:
        """Of memory, from the mean of the second sixth of the time to that of the last."""
        sixth = max(1, len(self.memory_mb) // 6)
        values = [memory for _, memory in self.memory_mb]
        early = statistics.mean(values[sixth : 2 * sixth])
        return statistics.mean(values[-sixth:]) / early - 1

    def lines(self, period_ms: float) -> list[str]:
        """All that there is to say."""
        last = self.memory_mb[-1][1]
        lines = [
            f"{self.sent} images sent, {len(self.age_ms)} results",
            f"memory {last:.0f} MB at the end, {self.growth():+.2%} after the first sixth",
            f"CPU of the node {self.cpu:.1%} of a core",
        ]
        if self.age_ms and self.latency_ms:
            age, own = statistics.median(self.age_ms), statistics.median(self.latency_ms)
            bound = statistics.median(self.processing_ms)
            lines += [
                f"age of a result's image: median {age:.1f} ms from outside, {own:.1f} ms as the "
                f"node says, {age - own:+.1f} ms",
                f"time in the node: median {bound:.1f} ms",
                f"camera period: {period_ms:.1f} ms",
            ]
        return lines


class _Probe(Node):
    def __init__(self, seen: Seen, watched: bool, reliable: bool) -> None:
        super().__init__("probe")
        qos = QoSProfile(depth=5) if reliable else qos_profile_sensor_data
        self.images = self.create_publisher(Image, "image", qos)
        self.infos = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self.seen = seen
        if not watched:
            return
        self.create_subscription(Detection3DArray, "kd3d_detector/detections", self._on_boxes, 10)
        for kind, topic in ((PointCloud2, "points"), (MarkerArray, "markers")):
            self.create_subscription(kind, f"kd3d_detector/{topic}", lambda _: None, 10)
        for name, into in (
            ("pipeline_latency_ms", seen.latency_ms),
            ("processing_time_ms", seen.processing_ms),
        ):
            self.create_subscription(
                Float64,
                f"kd3d_detector/debug/{name}",
                lambda message, into=into: into.append(message.data),
                10,
            )

    def _on_boxes(self, message: Detection3DArray, info: dict[str, int]) -> None:
        stamp = message.header.stamp
        sent_ns = stamp.sec * 10**9 + stamp.nanosec
        # Not now: this process sends images as well, and is late in taking what it gets.
        self.seen.age_ms.append(1e-6 * (info["received_timestamp"] - sent_ns))


def _watch(pid: int, seconds: float, camera: _Camera, watched: bool) -> Seen:
    seen, rate = Seen(), camera.rate
    rclpy.init()
    probe = _Probe(seen, watched, camera.reliable)
    executor = SingleThreadedExecutor()
    executor.add_node(probe)
    image, info = camera_messages(camera.width, camera.height)

    def send() -> None:
        now = probe.get_clock().now().to_msg()
        image.header.stamp = info.header.stamp = now
        probe.infos.publish(info)
        probe.images.publish(image)

    def is_ready() -> bool:
        if watched:
            return bool(seen.age_ms)
        return any("kd3d_detector" in name for name in probe.get_node_names())

    try:
        deadline = time.monotonic() + _START_LIMIT_S
        while not is_ready():
            if time.monotonic() > deadline:
                raise Kd3dError("the node does not answer: see its log above")
            send()
            executor.spin_once(timeout_sec=1 / rate)
        until = time.monotonic() + 5.0  # the first frames are slower
        while time.monotonic() < until:
            executor.spin_once(timeout_sec=0.1)
        for values in (seen.age_ms, seen.latency_ms, seen.processing_ms):
            values.clear()
        start, cpu = time.monotonic(), _cpu_s(pid)
        while (now := time.monotonic() - start) < seconds:
            send()
            seen.sent += 1
            if now >= len(seen.memory_mb):  # once per second
                seen.memory_mb.append((round(now, 2), _memory_mb(pid)))
            while (left := start + seen.sent / rate - time.monotonic()) > 0:
                executor.spin_once(timeout_sec=left)
        seen.cpu = (_cpu_s(pid) - cpu) / seconds
    finally:
        executor.shutdown()
        probe.destroy_node()
        rclpy.try_shutdown()
    return seen


def _memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_MB


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _plot(seen: Seen, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    times, memory = zip(*seen.memory_mb, strict=True)
    axes.plot([seconds / 60 for seconds in times], memory)
    axes.set(xlabel="minutes", ylabel="resident memory, MB", ylim=(0, 1.2 * max(memory)))
    figure.savefig(path, dpi=100)


def _run_node(detector_ms: str) -> int:
    detector = SteadyDetector(20_000, 20, 1e-3 * float(detector_ms))
    arguments = [sys.argv[0], "--ros-args", "-p", "tracking:=true"]
    return main(arguments, lambda: DetectorNode(lambda *_: detector))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--node"]:
        sys.exit(_run_node(*sys.argv[2:]))
    sys.exit(
        run(
            node_soak,
            prog="node_soak.py",
            description="Watch the node over a long time: memory, CPU, and how old results are.",
            examples=[
                "benchmarks/node_soak.py",
                "benchmarks/node_soak.py --minutes 1 --detector-ms 500",
            ],
        )
    )
