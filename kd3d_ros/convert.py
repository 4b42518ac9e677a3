"""Between ROS messages and arrays, without copying pixels."""

from functools import cache
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, PointField
from std_msgs.msg import Header

from kd3d_core.data.cdr import CdrWriter, header_block
from kd3d_core.data.pixels import ENCODINGS, PixelsError, decode_rgb
from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.rejection import BadImageError


def image_view(message: Image) -> np.ndarray:
    """The pixels of an image message as red, green, blue.

    rgb8, bgr8, rgba8, bgra8, mono8, 8UC1 and 8UC3 are views of the message's memory (so strides
    may be negative, or zero for mono8); everything else that cv_bridge can read is converted by
    it, where it is installed.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        BadImageError: with kind `zero_size`, `wrong_step`, `short_data` or `unknown_encoding`.
    """
    height, width = message.height, message.width
    if height and width and message.encoding not in ENCODINGS:
        return _converted(message)
    try:
        return decode_rgb(height, width, message.step, message.encoding, message.data)
    except PixelsError as error:
        raise BadImageError(error.kind, str(error)) from None


def _converted(message: Image) -> np.ndarray:
    bridge = _cv_bridge()
    if isinstance(bridge, Exception):
        raise BadImageError(
            "unknown_encoding",
            f"image encoding {message.encoding!r} is none of {', '.join(ENCODINGS)}, and "
            f"cv_bridge, which knows more, can't be loaded ({bridge}): install "
            "ros-$ROS_DISTRO-cv-bridge or let the camera publish rgb8",
        )
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # CvBridgeError, cv2.error, ValueError, KeyError, ...
        raise BadImageError(
            "unknown_encoding",
            f"cv_bridge cannot turn encoding {message.encoding!r} into rgb8 ({error}): "
            "let the camera publish rgb8",
        ) from None


@cache
def _cv_bridge() -> Any:
    """A CvBridge, or the exception that says why there is none. Tried once, not for each frame."""
    # Not ImportError alone: apt's cv_bridge is built against numpy 1 and fails under numpy 2 in
    # several ways, and with a page of warnings.
    try:
        from cv_bridge import CvBridge

        return CvBridge()
    except Exception as error:
        return error


def encoded_header(header: Header) -> bytes:
    """A header, serialised, for messages that are made as bytes."""
    return header_block(header.stamp.sec, header.stamp.nanosec, header.frame_id)


_XYZI = ("x", "y", "z", "intensity")


def points_message(points: np.ndarray, header: Header) -> bytes:
    """A `sensor_msgs/PointCloud2`, serialised, with 16 bytes per point.

    Args:
        points: `(N, 4)` x, y, z, intensity, all finite.
        header: of the cloud.
    """
    writer = CdrWriter()
    writer.block(4, encoded_header(header))
    writer.numbers("2I", 1, len(points))  # height and width
    writer.block(4, _fields())
    writer.numbers("?", False)  # is_bigendian
    writer.numbers("2I", 16, 16 * len(points))  # point_step and row_step
    writer.numbers("I", 16 * len(points))
    writer.array(points.astype(np.float32, copy=False))
    writer.numbers("?", True)  # is_dense
    return writer.message()


@cache
def _fields() -> bytes:
    writer = CdrWriter()
    writer.numbers("I", len(_XYZI))
    for i, name in enumerate(_XYZI):
        writer.text(name)
        writer.numbers("I", 4 * i)  # offset
        writer.numbers("B", PointField.FLOAT32)
        writer.numbers("I", 1)  # count
    return writer.content()


def detections_message(
    detections: Detections, class_names: tuple[str, ...], header: Header
) -> bytes:
    """A `vision_msgs/Detection3DArray`, serialised.

    Geometric centres, class names, `id` left empty; the pose is in each result as well.
    """
    centers, quaternions, sizes = box_geometry.to_ros(detections.boxes)
    poses = np.column_stack([centers, quaternions])
    no_covariances = np.zeros((len(poses), 36))
    # All that is float64 in a Detection3D stands together.
    rows = np.column_stack([detections.scores, poses, no_covariances, poses, sizes])
    header_bytes = encoded_header(header)
    writer = CdrWriter()
    writer.block(4, header_bytes)
    writer.numbers("I", len(rows))
    for row, label in zip(rows, detections.labels.tolist(), strict=True):
        writer.block(4, header_bytes)
        writer.numbers("I", 1)  # results
        writer.text(class_names[label])
        writer.array(row)
        writer.text("")  # id
    return writer.message()
