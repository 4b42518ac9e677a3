"""What vision_msgs has beside 3D boxes: objects in the image, and the names of classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kd3d_core.messages.cdr import CdrWriter, header_block

_NO_POSE = np.array([0.0, 0, 0, 0, 0, 0, 1, *[0] * 36])
"""A `PoseWithCovariance` that says nothing: position, quaternion, covariance."""


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """`vision_msgs/Detection2DArray`.

    Attributes:
        frame_id: of the camera.
        rectangles: `(N, 4)` left, top, right, bottom in pixels of the rectified image.
        scores: `(N,)`.
        ids: of tracked objects, empty where an object isn't; none at all where nothing tracks.
    """

    ros_type: ClassVar[str] = "vision_msgs/msg/Detection2DArray"
    stamp_ns: int
    frame_id: str
    rectangles: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelInfo:
    """`vision_msgs/LabelInfo`: the classes of a model, and the lowest score that is published."""

    ros_type: ClassVar[str] = "vision_msgs/msg/LabelInfo"
    stamp_ns: int
    frame_id: str
    names: Sequence[str]
    threshold: float


def encode_image_objects(found: ImageObjects) -> bytes:
    """The message in CDR."""
    writer = CdrWriter()
    header = header_block(found.stamp_ns, found.frame_id)
    writer.block(4, header)
    writer.numbers("I", len(found.names))
    rectangles = found.rectangles.reshape(-1, 4).astype(np.float64)
    sizes = rectangles[:, 2:] - rectangles[:, :2]
    centers = (rectangles[:, :2] + rectangles[:, 2:]) / 2
    ids = found.ids or ("",) * len(found.names)
    rows = zip(found.names, found.scores, centers, sizes, ids, strict=True)
    for name, score, center, size, track in rows:
        writer.block(4, header)
        writer.numbers("I", 1)  # results
        writer.text(name)
        writer.numbers("d", score)
        writer.array(_NO_POSE)
        writer.numbers("5d", *center, 0.0, *size)
        writer.text(track)
    return writer.message()


def encode_label_info(info: LabelInfo) -> bytes:
    """The message in CDR."""
    writer = CdrWriter()
    writer.header(info.stamp_ns, info.frame_id)
    writer.numbers("I", len(info.names))
    for number, name in enumerate(info.names):
        writer.numbers("H", number)
        writer.text(name)
    writer.numbers("f", info.threshold)
    return writer.message()
