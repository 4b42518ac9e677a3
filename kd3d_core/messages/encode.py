"""kd3d's messages as the bytes that DDS sends and bags hold: one encoder for each.

The field order is that of the .msg files. Fields that kd3d has no use for get ROS's defaults.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from kd3d_core.geometry.pose import pose_from_matrix
from kd3d_core.messages.cdr import CdrWriter, header_block
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    Message,
    ObjectBoxes,
    Odometry,
    PointCloud,
    Transforms,
)

_FLOAT32 = 7  # of sensor_msgs/PointField


def encode(message: Message) -> bytes:
    """A message in CDR, for `Publisher.publish` and `BagWriter.write`.

    Raises:
        DataError: a stamp is outside of what ROS can say.
        CalibrationError: a transform is no rigid one.
    """
    writer = CdrWriter()
    _ENCODERS[type(message)](writer, message)
    return writer.message()


def encode_float(value: float) -> bytes:
    """A `std_msgs/Float64`."""
    writer = CdrWriter()
    writer.numbers("d", value)
    return writer.message()


def _image(writer: CdrWriter, image: Image) -> None:
    writer.header(image.stamp_ns, image.frame_id)
    writer.numbers("2I", image.height, image.width)
    writer.text(image.encoding)
    writer.numbers("B", image.is_bigendian)
    writer.numbers("I", image.step)
    writer.sequence(image.data)


def _compressed_image(writer: CdrWriter, image: CompressedImage) -> None:
    writer.header(image.stamp_ns, image.frame_id)
    writer.text(image.layout)
    writer.sequence(image.data)


def _camera_info(writer: CdrWriter, info: CameraInfo) -> None:
    writer.header(info.stamp_ns, info.frame_id)
    writer.numbers("2I", info.height, info.width)
    writer.text(info.distortion_model)
    writer.sequence(np.asarray(info.d, np.float64))
    for matrix in (info.k, info.r, info.p):
        writer.array(np.asarray(matrix, np.float64))
    writer.numbers("2I", info.binning_x, info.binning_y)
    roi = info.roi
    writer.numbers("4I?", roi.x_offset, roi.y_offset, roi.height, roi.width, roi.do_rectify)


def _points(writer: CdrWriter, cloud: PointCloud) -> None:
    """16 bytes per point, and 4 each for its time and its colour, as PCL packs it."""
    columns, names = np.asarray(cloud.points, np.float32), ["x", "y", "z", "intensity"]
    if cloud.times_s is not None:
        columns = np.column_stack([columns, cloud.times_s.astype(np.float32)])
        names.append("time")
    if cloud.rgb is not None:
        red, green, blue = cloud.rgb.astype(np.uint32).T
        packed = red << 16 | green << 8 | blue
        columns = np.column_stack([columns, packed.view(np.float32)])
        names.append("rgb")
    count, fields = columns.shape
    writer.header(cloud.stamp_ns, cloud.frame_id)
    writer.numbers("2I", 1, count)  # height and width
    writer.block(4, _point_fields(*names))
    writer.numbers("?", False)  # is_bigendian
    writer.numbers("2I", 4 * fields, 4 * fields * count)  # point_step and row_step
    writer.numbers("I", 4 * fields * count)
    writer.array(columns)
    writer.numbers("?", bool(np.isfinite(columns).all()))  # is_dense


@cache
def _point_fields(*names: str) -> bytes:
    writer = CdrWriter()
    writer.numbers("I", len(names))
    for index, name in enumerate(names):
        writer.text(name)
        writer.numbers("I", 4 * index)  # offset
        writer.numbers("B", _FLOAT32)
        writer.numbers("I", 1)  # count
    return writer.content()


def _transforms(writer: CdrWriter, message: Transforms) -> None:
    writer.numbers("I", len(message.transforms))
    for transform in message.transforms:
        translation, quaternion = pose_from_matrix(transform.parent_from_child)
        writer.header(transform.stamp_ns, transform.parent)
        writer.text(transform.child)
        writer.numbers("7d", *translation, *quaternion)


def _odometry(writer: CdrWriter, message: Odometry) -> None:
    transform = message.transform
    translation, quaternion = pose_from_matrix(transform.parent_from_child)
    writer.header(transform.stamp_ns, transform.parent)
    writer.text(transform.child)
    writer.numbers("7d", *translation, *quaternion)
    writer.array(np.zeros(36 + 6 + 36))  # covariance, velocities, their covariance


def _boxes(writer: CdrWriter, message: ObjectBoxes) -> None:
    """Geometric centres; the pose is in each result as well."""
    from kd3d_core.geometry.boxes import to_ros  # imports torch

    centers, quaternions, sizes = to_ros(message.boxes, message.frame_from_boxes)
    poses = np.column_stack([centers, quaternions])
    # All that is float64 in a Detection3D stands together.
    rows = np.column_stack([message.scores, poses, _covariances(message), poses, sizes])
    header = header_block(message.stamp_ns, message.frame_id)
    writer.block(4, header)
    writer.numbers("I", len(rows))
    ids = message.ids or ("",) * len(rows)
    for row, name, number in zip(rows, message.names, ids, strict=True):
        writer.block(4, header)
        writer.numbers("I", 1)  # results
        writer.text(name)
        writer.array(row)
        writer.text(number)


def _covariances(message: ObjectBoxes) -> np.ndarray:
    """`(N, 36)` in the message's frame; zeros, which say nothing, where there is none."""
    covariances = message.covariances
    if covariances is None:
        return np.zeros((len(message.boxes), 36))
    if message.frame_from_boxes is not None:
        turn = np.zeros((6, 6))
        turn[:3, :3] = turn[3:, 3:] = message.frame_from_boxes[:3, :3]
        covariances = turn @ covariances @ turn.T
    return covariances.reshape(-1, 36)


_ENCODERS: dict[type, Callable[[CdrWriter, Any], None]] = {
    Image: _image,
    CompressedImage: _compressed_image,
    CameraInfo: _camera_info,
    PointCloud: _points,
    Transforms: _transforms,
    Odometry: _odometry,
    ObjectBoxes: _boxes,
}
