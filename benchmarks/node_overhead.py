"""What the detector node costs beside its models: receive, convert, publish, at KITTI's size.

    make env
    .venv/bin/python benchmarks/node_overhead.py

The node runs in a process of its own with a detector that answers at once. `node` is the time from
the moment DDS has an image to the moment its last result is published, without the detector;
`end to end` is what a robot sees: from publishing the image to receiving points, boxes and markers.
Needs Jazzy or later, which tell when a message arrived.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import rclpy
from node_messages import HEIGHT, WIDTH, SteadyDetector, camera_messages
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from kd3d_core.cli.app import run
from kd3d_core.errors import Kd3dError
from kd3d_ros.detector_node import DetectorNode, main
from kd3d_ros.diagnostics import StageTimes
from kd3d_ros.inputs import ReceivedImage
from kd3d_ros.intake import Intake
from kd3d_ros.profile import use_profile

STAGES = {
    "wait": "arrival in DDS to the worker",
    "convert": "message to image and camera",
    "publish": "points, boxes and markers",
    "overhead": "node",
}


def node_overhead(
    frames: int = 300, rate: float = 10.0, points: int = 40_000, boxes: int = 20
) -> None:
    """Measure the node's own cost, in two processes over DDS.

    Args:
        frames: images to send.
        rate: images per second.
        points: points that the detector answers with.
        boxes: boxes that it answers with.
    """
    use_profile()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stages.json"
        node = subprocess.Popen([sys.executable, __file__, "--node", out, str(points), str(boxes)])
        try:
            latencies = _send(frames, rate, warm_up=10)
        finally:
            node.send_signal(signal.SIGINT)
            node.wait(30)
        stages = json.loads(out.read_text())
    _print(stages, latencies, f"{frames} images of {WIDTH} x {HEIGHT} rgb8 at {rate:g} Hz")


class _Probe(Node):
    """Sends images and notes when each result comes back."""

    def __init__(self) -> None:
        super().__init__("probe")
        self.images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self.infos = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self.arrived: dict[int, list[float]] = {}
        for kind, name in (
            (PointCloud2, "points"),
            (Detection3DArray, "detections"),
            (MarkerArray, "markers"),
        ):
            self.create_subscription(kind, f"kd3d_detector/{name}", self._on_result, 10)

    def _on_result(self, message: Any) -> None:
        header = message.header if hasattr(message, "header") else message.markers[0].header
        self.arrived.setdefault(header.stamp.sec, []).append(time.perf_counter())


def _send(frames: int, rate: float, warm_up: int) -> list[float]:
    """Latencies in milliseconds of the images that were answered, the first ones left out."""
    rclpy.init()
    probe = _Probe()
    executor = SingleThreadedExecutor()
    executor.add_node(probe)
    image, info = camera_messages()
    sent: dict[int, float] = {}
    deadline = time.monotonic() + 60
    try:
        # Stamps count images; the first are sent until one is answered, then a few to warm up.
        number = 0
        while number < frames + warm_up:
            if probe.arrived:
                number += 1
            elif time.monotonic() > deadline:
                raise Kd3dError("the node does not answer: see its log above")
            image.header.stamp.sec = number
            sent[number] = time.perf_counter()
            probe.infos.publish(info)
            probe.images.publish(image)
            while (left := sent[number] + 1 / rate - time.perf_counter()) > 0:
                executor.spin_once(timeout_sec=left)
    finally:
        executor.shutdown()
        probe.destroy_node()
        rclpy.try_shutdown()
    return [
        1e3 * (times[2] - sent[number])
        for number, times in probe.arrived.items()
        if number > warm_up and len(times) == 3
    ]


def _print(stages: dict[str, list[float]], latencies: list[float], title: str) -> None:
    table = Table("", "ms", "median", "p95", "frames", title=title)
    for name, meaning in STAGES.items():
        table.add_row(name, meaning, *_summary(stages[name]))
    table.add_row("", "end to end", *_summary(latencies))
    Console().print(table)


def _summary(times: list[float]) -> list[str]:
    p95 = statistics.quantiles(times, n=20)[-1]
    return [f"{statistics.median(times):.2f}", f"{p95:.2f}", str(len(times))]


def _timed(intake: Intake) -> None:
    """Let a frame's time count from its arrival in DDS, not from when rclpy has taken it."""

    def on_image(data: bytes, info: dict[str, int]) -> None:
        taking_s = 1e-9 * (time.time_ns() - info["received_timestamp"])
        intake.receive(ReceivedImage(data, time.perf_counter() - taking_s))

    intake.on_image = on_image  # type: ignore[method-assign,assignment]


def _run_node(out: str, points: str, boxes: str) -> int:
    stages = StageTimes(window=100_000)

    def make() -> DetectorNode:
        node = DetectorNode(lambda *_: SteadyDetector(int(points), int(boxes)))
        _timed(node.intake)
        node.stages = stages
        return node

    status = main([sys.argv[0]], make)
    Path(out).write_text(json.dumps({name: stages.samples(name)[10:] for name in STAGES}))
    return status


if __name__ == "__main__":
    if sys.argv[1:2] == ["--node"]:
        sys.exit(_run_node(*sys.argv[2:]))
    sys.exit(
        run(
            node_overhead,
            prog="node_overhead.py",
            description="Measure what the detector node costs beside its models.",
            examples=["benchmarks/node_overhead.py", "benchmarks/node_overhead.py --rate 30"],
        )
    )
