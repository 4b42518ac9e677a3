"""Bags to play, who plays and records them, and who listens."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.data.bag import BagReader
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_core.messages.types import Image, Transform, Transforms
from kd3d_ros.play import play_bag
from kd3d_ros.raw import bare_node, message_class, ros_qos

START = 1_700_000_000 * 10**9
LIMIT_S = 30.0


def image(index: int, size: int = 8) -> Image:
    pixels = np.full((size, size, 3), index % 256, np.uint8)
    return Image.from_rgb(pixels, START + index * 10**7, "camera")


def transform(number: int) -> Transforms:
    pose = np.eye(4)
    pose[0, 3] = number
    return Transforms((Transform(START, "base", f"sensor{number}", pose),))


def payloads(path: Path, topic: str) -> list[bytes]:
    with BagReader(path) as reader:
        return [message.data for message in reader.messages([topic])]


def same(recorded: list[bytes], played: list[bytes]) -> bool:
    """Equal but for the up to three bytes with which DDS fills a message's last word."""
    return len(recorded) == len(played) and all(
        one[: len(two)] == two and len(one) - len(two) < 4 and not any(one[len(two) :])
        for one, two in zip(recorded, played, strict=True)
    )


@contextmanager
def command(*words: object) -> Iterator[subprocess.Popen[str]]:
    """`kd3d-bag` in a process of its own, killed at the end if need be."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kd3d_ros.bag", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Listener:
    """Subscribes in this process, and spins in a thread until the end of the block."""

    def __init__(self, **topics: str) -> None:
        self.received: dict[str, list[Any]] = {topic: [] for topic in topics}
        self._kinds = topics
        self._changed = threading.Condition()

    def __enter__(self) -> "Listener":
        from rclpy.executors import SingleThreadedExecutor

        self._node_manager = bare_node("listener")
        self._node = self._node_manager.__enter__()
        for topic, kind in self._kinds.items():
            qos = LATCHED if topic == "tf_static" else QosProfile("best_effort", depth=100)
            self._node.create_subscription(
                message_class(kind),
                f"/{topic}",
                lambda message, topic=topic: self._take(topic, message),
                ros_qos(QosProfile(qos.reliability, qos.durability, depth=100)),
            )
        self._executor = SingleThreadedExecutor(context=self._node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node_manager.__exit__(None, None, None)

    def _take(self, topic: str, message: Any) -> None:
        with self._changed:
            self.received[topic].append(message)
            self._changed.notify_all()

    def wait(self, topic: str, number: int) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received[topic]) >= number, LIMIT_S), (
                f"{len(self.received[topic])} of {number} on {topic}"
            )
            return list(self.received[topic])


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """`work` goes on beside the block, and has ended after it."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(LIMIT_S)


@contextmanager
def looping(bag: Path) -> Iterator[None]:
    """A bag is played over and over during the block."""
    stop = threading.Event()
    with in_thread(lambda: play_bag(bag, loop=True, stop=stop)):
        try:
            yield
        finally:
            stop.set()
