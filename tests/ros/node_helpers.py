"""Messages to send to the node, and a node that receives what it answers."""

import array
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from kd3d_ros.profile import NEW, OLD, has_fast_dds_2

ROOT = Path(__file__).parents[2]
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CAMERA_FRAME = "camera_optical"


def image_message(
    pixels: np.ndarray | None = None, encoding: str = "rgb8", stamp: float = 1.0, padding: int = 0
) -> Image:
    """`(H, W, C)` uint8 as a message whose rows are `padding` bytes longer than needed."""
    if pixels is None:
        pixels = np.zeros((48, 64, 3), np.uint8)
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    data = array.array("B")
    data.frombytes(rows.tobytes())
    message = Image(height=height, width=width, encoding=encoding, step=rows.shape[1], data=data)
    message.header.frame_id = CAMERA_FRAME
    message.header.stamp.sec = int(stamp)
    message.header.stamp.nanosec = round(1e9 * (stamp - int(stamp)))
    return message


def camera_info(
    width: int = 64, height: int = 48, focal: float = 60.0, k1: float = 0.0, binning: int = 0
) -> CameraInfo:
    """An ideal camera, but for the lens's `k1`."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.header.frame_id = CAMERA_FRAME
    message.d = [k1, 0.0, 0.0, 0.0, 0.0]
    message.binning_x = message.binning_y = binning
    message.k = [focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0]
    message.r = np.eye(3).ravel().tolist()
    message.p = [focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def stamp_of(message: Any) -> tuple[int, int]:
    """Seconds and nanoseconds."""
    return message.header.stamp.sec, message.header.stamp.nanosec


class Camera(Node):
    """Publishes images and CameraInfo, and collects what a detector node answers."""

    def __init__(self, detector: str = "/kd3d_detector", listen: bool = True) -> None:
        super().__init__("test_camera")
        self.images = self.create_publisher(Image, "/image", SENSOR)
        self.infos = self.create_publisher(CameraInfo, "/camera_info", SENSOR)
        self.points: list[PointCloud2] = []
        self.detections: list[Detection3DArray] = []
        self.markers: list[MarkerArray] = []
        self.statuses: list[DiagnosticStatus] = []
        self._listeners = []
        if listen:
            for kind, name in (
                (PointCloud2, "points"),
                (Detection3DArray, "detections"),
                (MarkerArray, "markers"),
            ):
                self.listen(kind, f"{detector}/{name}", getattr(self, name))
        self._diagnostics = self.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, 10
        )

    def listen(self, kind: Any, topic: str, into: list[Any], qos: Any = 50) -> Any:
        """Collect the messages of a topic; the subscription."""
        self._listeners.append(self.create_subscription(kind, topic, into.append, qos))
        return self._listeners[-1]

    def forget_listeners(self) -> None:
        """Wait no more for publishers of what has been listened to."""
        self._listeners.clear()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses += message.status

    def is_connected(self) -> bool:
        """Whether this node and the detector node have found each other, in both directions."""
        return self.has_topics() and self.value("image_publishers") == "1"

    def has_topics(self) -> bool:
        """Whether this node has found the detector node."""
        return (
            self.images.get_subscription_count() > 0
            and self.infos.get_subscription_count() > 0
            and self._diagnostics.get_publisher_count() > 0
            and all(listener.get_publisher_count() for listener in self._listeners)
        )

    def value(self, key: str) -> str:
        """A value of the latest diagnostics; empty if there is none."""
        pairs = self.statuses[-1].values if self.statuses else []
        return next((pair.value for pair in pairs if pair.key == key), "")


class Spinner:
    """Spins nodes of this process until something has happened."""

    def __init__(self, *nodes: Node) -> None:
        self.executor = SingleThreadedExecutor()
        self.nodes = nodes
        for node in nodes:
            self.executor.add_node(node)

    def until(self, what: str, happened: Callable[[], object], limit_s: float = 30.0) -> None:
        """Spin until `happened()`; fail after `limit_s` saying that `what` did not."""
        end = time.monotonic() + limit_s
        while not happened():
            assert time.monotonic() < end, f"not within {limit_s} s: {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def during(self, seconds: float) -> None:
        """Spin for a while: for what is done at a certain time, never to wait for an event."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def __enter__(self) -> "Spinner":
        return self

    def __exit__(self, *error: object) -> None:
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()


def start_fake_node(
    *arguments: str, parameters: Sequence[str] = (), profile: bool = True
) -> "subprocess.Popen[str]":
    """The detector node with a fake detector, in a process of its own."""
    ros = [word for parameter in parameters for word in ("-p", parameter)]
    return start_program(
        "fake_detector.py", *arguments, *(["--ros-args", *ros] if ros else []), profile=profile
    )


def start_program(name: str, *arguments: str, profile: bool = True) -> "subprocess.Popen[str]":
    """A program beside this file in a process of its own, without a Fast DDS profile if wanted."""
    return start_python(str(Path(__file__).with_name(name)), *arguments, profile=profile)


def start_python(*arguments: str, profile: bool = True) -> "subprocess.Popen[str]":
    """Python in a process of its own, without a Fast DDS profile if wanted."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if not profile:
        environment |= {OLD if has_fast_dds_2() else NEW: ""}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
