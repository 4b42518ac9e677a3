"""A message of each kind, and a bag of them."""

from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagWriter
from kd3d_core.messages.qos import LATCHED
from kd3d_core.messages.types import (
    CameraInfo,
    Image,
    Message,
    ObjectBoxes,
    PointCloud,
    Transform,
    Transforms,
)

STAMP = 1_317_042_272_123_456_789


RNG = np.random.default_rng(0)


IMAGE = Image.from_rgb(RNG.integers(0, 255, (6, 9, 3), np.uint8), STAMP, "camera")


INFO = CameraInfo(
    STAMP,
    "camera",
    6,
    9,
    "plumb_bob",
    RNG.normal(size=5),
    RNG.normal(size=9),
    np.eye(3).reshape(9),
    RNG.normal(size=12),
)


_XYZ, _INTENSITY = RNG.normal(size=(50, 3)), RNG.uniform(size=(50, 1))
CLOUD = PointCloud(STAMP, "velodyne", np.hstack([_XYZ, _INTENSITY]).astype(np.float32))


POSE = np.array([[0.0, 0, 1, 0.27], [-1, 0, 0, -0.01], [0, -1, 0, -0.08], [0, 0, 0, 1]])


TRANSFORMS = Transforms((Transform(STAMP, "velodyne", "camera", POSE),))


BOXES = ObjectBoxes(
    STAMP,
    "velodyne",
    np.array([[10, 2, -1.7, 4, 1.6, 1.5, 0.3], [30, -4, -1.6, 0.8, 0.6, 1.8, -2]], np.float32),
    ("Car", "Pedestrian"),
    np.array([1.0, 0.25]),
)


MESSAGES: dict[str, Message] = {
    "/image": IMAGE,
    "/info": INFO,
    "/points": CLOUD,
    "/tf_static": TRANSFORMS,
    "/boxes": BOXES,
}


def assert_same(ours: object, other: object) -> None:
    """Equal dataclasses, whose arrays may differ by rounding in a quaternion or a centre."""
    assert type(ours) is type(other)
    for name, value in vars(ours).items():
        again = getattr(other, name)
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(again, value, atol=1e-6)
        elif isinstance(value, tuple) and value and isinstance(value[0], Transform):
            for one, two in zip(value, again, strict=True):
                assert_same(one, two)
        else:
            assert again == value


def write_bag(path: Path) -> Path:
    with BagWriter(path) as writer:
        for topic, message in MESSAGES.items():
            writer.add_topic(topic, message.ros_type, LATCHED if topic == "/tf_static" else None)
            writer.write(topic, STAMP, message)
        writer.write("/image", STAMP + 10**8, IMAGE)
    return path
