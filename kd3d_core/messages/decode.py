"""Messages of rclpy or of a bag library as kd3d's own: both name fields as the .msg files do."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kd3d_core.errors import CalibrationError, DataError, listed, shown
from kd3d_core.geometry.pose import matrix_from_pose
from kd3d_core.messages.cdr import CdrReader
from kd3d_core.messages.clouds import find_units, make_cloud, read_columns
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    Message,
    ObjectBoxes,
    Odometry,
    PointCloud,
    RegionOfInterest,
    Transform,
    Transforms,
)

_log = logging.getLogger(__name__)


def decode(message: Any, type_name: str) -> Message:
    """A message of ROS type `type_name` as kd3d's own; a cloud by the units that it shows itself.

    `DataError` if kd3d has none for this type, or its contents contradict each other.
    """
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        raise DataError(
            f"{shown(type_name)} is none of the types that kd3d reads: {listed(_DECODERS)}"
        )
    return decoder(message)


def image_in_cdr(message: bytes) -> Image:
    """A `sensor_msgs/Image` from the bytes that DDS sends; its pixels are not copied.

    rclpy copies them twice, which takes longer than all else that is done for an image
    (docs/results/node_overhead.md).

    Raises:
        ValueError: it is none, or in another encoding than DDS usually has.
    """
    reader = CdrReader(message)
    stamp = reader.number("i") * 10**9 + reader.number("I")
    frame_id, height, width = reader.text(), reader.number("I"), reader.number("I")
    encoding, is_bigendian, step = reader.text(), reader.number("B"), reader.number("I")
    data = np.frombuffer(reader.block(), np.uint8)
    return Image(stamp, frame_id, height, width, encoding, step, data, bool(is_bigendian))


def stamp_ns(header: Any) -> int:
    """The stamp of a `std_msgs/Header` in nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def transforms(message: Any, on_bad: Callable[[str], object]) -> Iterator[Transform]:
    """The transforms of a `tf2_msgs/TFMessage`.

    `on_bad` is told of each one that is no pose and is left out; others may be good.
    """
    for stamped in message.transforms:
        move, turn = stamped.transform.translation, stamped.transform.rotation
        parent, child = stamped.header.frame_id, stamped.child_frame_id
        try:
            pose = matrix_from_pose((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
        except CalibrationError as error:
            on_bad(f"the transform {shown(parent)} -> {shown(child)} is left out: {error}")
        else:
            yield Transform(stamp_ns(stamped.header), parent, child, pose)


def _image(message: Any) -> Image:
    return Image(
        stamp_ns(message.header),
        message.header.frame_id,
        int(message.height),
        int(message.width),
        message.encoding,
        int(message.step),
        np.asarray(message.data, np.uint8),
        bool(message.is_bigendian),
    )


def _compressed_image(message: Any) -> CompressedImage:
    return CompressedImage(
        stamp_ns(message.header),
        message.header.frame_id,
        message.format,
        np.asarray(message.data, np.uint8),
    )


def _camera_info(message: Any) -> CameraInfo:
    d, k, r, p = (np.array(getattr(message, name), np.float64) for name in "dkrp")
    roi = message.roi
    return CameraInfo(
        stamp_ns(message.header),
        message.header.frame_id,
        int(message.height),
        int(message.width),
        message.distortion_model,
        d,
        k,
        r,
        p,
        int(message.binning_x),
        int(message.binning_y),
        RegionOfInterest(
            int(roi.x_offset),
            int(roi.y_offset),
            int(roi.height),
            int(roi.width),
            bool(roi.do_rectify),
        ),
    )


def _cloud(message: Any) -> PointCloud:
    columns = read_columns(message)
    return make_cloud(columns, find_units([columns]))


def _transforms(message: Any) -> Transforms:
    return Transforms(tuple(transforms(message, lambda text: _log.warning("%s", text))))


def _odometry(message: Any) -> Odometry:
    pose = message.pose.pose
    move, turn = pose.position, pose.orientation
    matrix = matrix_from_pose((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
    parent, child = message.header.frame_id, message.child_frame_id
    return Odometry(Transform(stamp_ns(message.header), parent, child, matrix))


def _boxes(message: Any) -> ObjectBoxes:
    from kd3d_core.geometry.boxes import from_ros  # imports torch

    centers, quaternions, sizes, names, scores = [], [], [], [], []
    for detection in message.detections:
        position, orientation = detection.bbox.center.position, detection.bbox.center.orientation
        centers.append((position.x, position.y, position.z))
        quaternions.append((orientation.x, orientation.y, orientation.z, orientation.w))
        size = detection.bbox.size
        sizes.append((size.x, size.y, size.z))
        best = max(detection.results, key=lambda result: result.hypothesis.score, default=None)
        names.append("" if best is None else best.hypothesis.class_id)
        scores.append(0.0 if best is None else best.hypothesis.score)
    ids = tuple(detection.id for detection in message.detections)
    return ObjectBoxes(
        stamp_ns(message.header),
        message.header.frame_id,
        from_ros(np.array(centers), np.array(quaternions), np.array(sizes)),
        tuple(names),
        np.array(scores, np.float64),
        ids=ids if any(ids) else (),
    )


_DECODERS: dict[str, Callable[[Any], Message]] = {
    Image.ros_type: _image,
    CompressedImage.ros_type: _compressed_image,
    CameraInfo.ros_type: _camera_info,
    PointCloud.ros_type: _cloud,
    Transforms.ros_type: _transforms,
    Odometry.ros_type: _odometry,
    ObjectBoxes.ros_type: _boxes,
}
