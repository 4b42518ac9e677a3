"""Between ROS messages and arrays, without copying pixels."""

import array
import sys

import numpy as np
from geometry_msgs.msg import Pose, PoseWithCovariance
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox3D,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.runtime.detections import Detections
from kd3d_ros.rejection import BadImageError

# Bytes per pixel, and which of them are red, green and blue.
_DIRECT_ENCODINGS: dict[str, tuple[int, slice]] = {
    "rgb8": (3, slice(0, 3)),
    "bgr8": (3, slice(2, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, slice(0, 1)),
    "8UC1": (1, slice(0, 1)),
    "8UC3": (3, slice(2, None, -1)),  # OpenCV's own order, as cv_bridge takes it
}


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
    if height == 0 or width == 0:
        raise BadImageError(
            "zero_size", f"image of {width} x {height} pixels: check the camera driver"
        )
    if message.encoding not in _DIRECT_ENCODINGS:
        return _converted(message)
    pixel_size, rgb = _DIRECT_ENCODINGS[message.encoding]
    if message.step < width * pixel_size:
        raise BadImageError(
            "wrong_step",
            f"image has step {message.step}, but {width} pixels of {message.encoding} are "
            f"{width * pixel_size} bytes: the camera driver fills step wrongly",
        )
    if len(message.data) < message.step * height:
        raise BadImageError(
            "short_data",
            f"image has {len(message.data)} bytes, but step {message.step} x height {height} "
            f"are {message.step * height}: the camera driver sends incomplete frames",
        )
    pixels: np.ndarray = np.ndarray(
        (height, width, pixel_size),
        np.uint8,
        buffer=message.data,
        strides=(message.step, pixel_size, 1),
    )
    return np.broadcast_to(pixels[..., rgb], (height, width, 3))


def _converted(message: Image) -> np.ndarray:
    # Not ImportError alone: apt's cv_bridge is built against numpy 1 and fails under numpy 2 in
    # several ways.
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
    except Exception as error:
        raise BadImageError(
            "unknown_encoding",
            f"image encoding {message.encoding!r} is none of {', '.join(_DIRECT_ENCODINGS)}, and "
            f"cv_bridge, which knows more, can't be loaded ({error}): install "
            "ros-$ROS_DISTRO-cv-bridge or let the camera publish rgb8",
        ) from None
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # CvBridgeError, cv2.error, ValueError, KeyError, ...
        raise BadImageError(
            "unknown_encoding",
            f"cv_bridge cannot turn encoding {message.encoding!r} into rgb8 ({error}): "
            "let the camera publish rgb8",
        ) from None


_FIELDS = [
    PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
    for i, name in enumerate(("x", "y", "z", "intensity"))
]


def points_message(points: np.ndarray, header: Header) -> PointCloud2:
    """`(N, 4)` x, y, z, intensity, all finite, as a PointCloud2 with 16 bytes per point."""
    points = np.ascontiguousarray(points, np.float32)
    # Anything but array.array is checked byte by byte in the setter: 45 ms per MB.
    data = array.array("B")
    data.frombytes(points.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=_FIELDS,
        is_bigendian=sys.byteorder == "big",
        point_step=16,
        row_step=16 * len(points),
        data=data,
        is_dense=True,
    )


class DetectionsWriter:
    """Writes boxes as `vision_msgs/Detection3DArray`.

    Making one Detection3D takes 30 us, as its constructors first make every default of every part;
    so they are kept and filled anew. A message is good until the next one is written.
    """

    def __init__(self) -> None:
        self._kept: list[Detection3D] = []

    def message(
        self, detections: Detections, class_names: tuple[str, ...], header: Header
    ) -> Detection3DArray:
        """Geometric centres, class names, `id` left empty; the pose is in each result as well."""
        centers, quaternions, sizes = box_geometry.to_ros(detections.boxes)
        while len(self._kept) < len(centers):
            self._kept.append(_blank_detection())
        written = self._kept[: len(centers)]
        columns = (centers, quaternions, sizes, detections.scores, detections.labels)
        rows = zip(written, *(column.tolist() for column in columns), strict=True)
        for detection, center, quaternion, size, score, label in rows:
            detection.header = header
            hypothesis = detection.results[0].hypothesis
            hypothesis.class_id, hypothesis.score = class_names[label], score
            box = detection.bbox
            position, turn = box.center.position, box.center.orientation
            position.x, position.y, position.z = center
            turn.x, turn.y, turn.z, turn.w = quaternion
            box.size.x, box.size.y, box.size.z = size
        return Detection3DArray(header=header, detections=written)


def _blank_detection() -> Detection3D:
    pose = Pose()
    result = ObjectHypothesisWithPose(pose=PoseWithCovariance(pose=pose))
    return Detection3D(results=[result], bbox=BoundingBox3D(center=pose))
