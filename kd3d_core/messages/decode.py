"""Messages of rclpy or of a bag library as kd3d's own: both name fields as the .msg files do."""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from kd3d_core.errors import CalibrationError, DataError, listed, shown
from kd3d_core.geometry.pose import matrix_from_pose
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

_POINT_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_TIME_FIELDS = ("t", "time", "timestamp", "time_stamp", "offset_time")
# A scan takes a tenth of a second or so, and its header has the time of its start or end.
_LONGEST_SCAN_S = 1.0


def decode(message: Any, type_name: str) -> Message:
    """A message of ROS type `type_name` as kd3d's own.

    `DataError` if kd3d has none for this type, or its contents contradict each other.
    """
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        raise DataError(
            f"{shown(type_name)} is none of the types that kd3d reads: {listed(_DECODERS)}"
        )
    return decoder(message)


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
    height, width = int(message.height), int(message.width)
    step, row_step = int(message.point_step), int(message.row_step)
    data = np.asarray(message.data, np.uint8)
    if data.size < row_step * height or row_step < step * width:
        raise DataError(
            f"a cloud of {height} x {width} points with point_step {step} and row_step {row_step} "
            f"has {data.size} bytes: it is cut off or its steps are wrong"
        )
    rows = data[: row_step * height].reshape(height, row_step)[:, : step * width]
    packed = np.ascontiguousarray(rows).reshape(height * width, step)
    fields = {field.name: field for field in message.fields}
    order = ">" if message.is_bigendian else "<"
    points = np.zeros((height * width, 4), np.float32)
    for column, name in enumerate(("x", "y", "z", "intensity")):
        if name in fields:
            points[:, column] = _column(packed, fields[name], order)
        elif name != "intensity":
            raise DataError(f"the cloud has no field {name!r}, only {listed(fields)}")
    stamp, frame_id = stamp_ns(message.header), message.header.frame_id
    name = next((name for name in _TIME_FIELDS if name in fields), "")
    times_s = _times_s(_column(packed, fields[name], order), stamp) if name else None
    if name and times_s is None:
        _warn_once(
            f"clouds in {shown(frame_id)!r}: the times in field {name!r} are not within a second "
            "of the header stamp, whether in s or ns: they are left out"
        )
    return PointCloud(stamp, frame_id, points, times_s)


def _column(packed: np.ndarray, field: Any, order: str) -> np.ndarray:
    """The values of a field, `(N,)`, from points of `(N, point_step)` bytes."""
    if field.datatype not in _POINT_DTYPES:
        raise DataError(f"field {shown(field.name)!r} has the unknown datatype {field.datatype}")
    dtype = np.dtype(order + _POINT_DTYPES[field.datatype])
    start, end, step = int(field.offset), int(field.offset) + dtype.itemsize, packed.shape[1]
    if end > step:
        raise DataError(
            f"field {shown(field.name)!r} ends at byte {end} of a point of {step} bytes"
        )
    values: np.ndarray = np.ascontiguousarray(packed[:, start:end]).view(dtype)[:, 0]
    return values


def _times_s(times: np.ndarray, stamp: int) -> np.ndarray | None:
    """Seconds after the header stamp; None if the times have none of the known units.

    Whole numbers are nanoseconds (Ouster `t`, Livox `offset_time`, Autoware `time_stamp`), others
    are seconds (Velodyne `time`), both after the stamp. What is larger is since 1970: seconds
    (Hesai and RoboSense `timestamp`) or nanoseconds (the same of Livox).
    """
    is_whole = times.dtype.kind in "iu"
    largest = np.abs(times.astype(np.float64)).max(initial=0.0)
    if largest > 1e17:
        after = (times.astype(np.int64) - stamp) / 1e9
    elif largest > 1e9 and not is_whole:
        after = times.astype(np.float64) - stamp / 1e9
    else:
        after = times / 1e9 if is_whole else times.astype(np.float64)
    return after if np.abs(after).max(initial=0.0) <= _LONGEST_SCAN_S else None


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)


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
    return ObjectBoxes(
        stamp_ns(message.header),
        message.header.frame_id,
        from_ros(np.array(centers), np.array(quaternions), np.array(sizes)),
        tuple(names),
        np.array(scores, np.float64),
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
