"""A small recording: a LiDAR, cameras and labels of a robot that drives along x."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagWriter
from kd3d_core.messages.types import (
    CameraInfo,
    Image,
    Message,
    ObjectBoxes,
    PointCloud,
    Transform,
    Transforms,
)

START_NS = 1_700_000_000 * 10**9
MS = 10**6
WIDTH, HEIGHT, FOCAL = 48, 24, 40.0
LIDAR_FROM_CAMERA = np.array([[0.0, 0, 1, 0.3], [-1, 0, 0, 0], [0, -1, 0, -0.1], [0, 0, 0, 1]])

Recorded = tuple[str, int, Message]
"""A topic, when a message on it is recorded, and the message."""


def image(number: int, stamp_ns: int, frame: str = "camera") -> Image:
    """Noise that is told by its number."""
    pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    return Image.from_rgb(pixels, stamp_ns, frame)


def cloud(number: int, stamp_ns: int) -> PointCloud:
    """Points ahead."""
    points = np.random.default_rng(1000 + number).uniform(0, 1, (100, 4)).astype(np.float32)
    points[:, :3] = points[:, :3] * (20, 10, 2) + np.array((3, -5, -1.7), np.float32)
    return PointCloud(stamp_ns, "lidar", points)


def info(stamp_ns: int, frame: str = "camera") -> CameraInfo:
    projection = np.array([FOCAL, 0, 24, 0, 0, FOCAL, 12, 0, 0, 0, 1, 0])
    intrinsics = projection.reshape(3, 4)[:, :3].reshape(9)
    return CameraInfo(
        stamp_ns, frame, HEIGHT, WIDTH, "plumb_bob", np.zeros(5), intrinsics, np.eye(3).reshape(9),
        projection,
    )  # fmt: skip


def boxes(stamp_ns: int, frame: str = "lidar") -> ObjectBoxes:
    """A car ahead."""
    car = np.array([[12, 0.5, -1.7, 4, 1.6, 1.5, 0.2]], np.float32)
    return ObjectBoxes(stamp_ns, frame, car, ("Car",), np.ones(1))


def static(stamp_ns: int, frame: str = "camera", pose: np.ndarray = LIDAR_FROM_CAMERA) -> Recorded:
    return "/tf_static", stamp_ns, Transforms((Transform(stamp_ns, "lidar", frame, pose),))


def scans(count: int, first: int = 0) -> list[Recorded]:
    """A cloud every 100 ms, recorded 20 ms later."""
    stamps = [START_NS + 100 * MS * number for number in range(first, first + count)]
    return [
        ("/points", stamp + 20 * MS, cloud(number, stamp))
        for number, stamp in enumerate(stamps, first)
    ]


def camera(
    count: int, name: str = "camera", period_ms: int = 50, late_ms: int = 4
) -> list[Recorded]:
    """Images and their CameraInfos, recorded 5 ms after they were taken."""
    recorded: list[Recorded] = []
    for number in range(count):
        stamp = START_NS + (period_ms * number + late_ms) * MS
        recorded.append((f"/{name}/camera_info", stamp + 5 * MS, info(stamp, name)))
        recorded.append((f"/{name}/image_raw", stamp + 5 * MS, image(number, stamp, name)))
    return recorded


def labels(count: int) -> list[Recorded]:
    return [
        ("/labels", START_NS + (100 * number + 90) * MS, boxes(START_NS + 100 * number * MS))
        for number in range(count)
    ]


def drive(count: int) -> list[Recorded]:
    """A recording with all of it: as many scans, twice as many images, labels of every scan."""
    return [static(START_NS), *scans(count), *camera(2 * count), *labels(count)]


def restamped(recorded: Iterable[Recorded], topic: str, stamps: dict[int, int]) -> list[Recorded]:
    """The same with other header stamps of some messages of a topic, by their numbers."""
    result, number = [], 0
    for name, at_ns, message in recorded:
        if name == topic:
            changed = replace(message, stamp_ns=stamps.get(number, message.stamp_ns))
            result.append((name, at_ns, changed))
            number += 1
        else:
            result.append((name, at_ns, message))
    return result


def write(path: Path, recorded: Iterable[Recorded]) -> Path:
    """A bag of messages, in the order of their recording."""
    ordered = sorted(recorded, key=lambda each: each[1])
    with BagWriter(path) as writer:
        for topic, message in {topic: message for topic, _, message in ordered}.items():
            writer.add_topic(topic, type(message).ros_type)
        for topic, at_ns, message in ordered:
            writer.write(topic, at_ns, message)
    return path


def tree(root: Path) -> dict[str, str]:
    """Digests of all files in a folder, by path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
