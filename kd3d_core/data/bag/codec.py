"""Between kd3d's messages and those of a type store, which has ROS's names and nested fields.

A type store is a mapping from type names to classes, as `rosbags` builds them; nothing here needs
to know more about it. Fields that kd3d has no use for get ROS's defaults.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from kd3d_core.data.messages import (
    CameraInfo,
    CompressedImage,
    Image,
    Message,
    ObjectBoxes,
    PointCloud,
    RegionOfInterest,
    Transform,
    Transforms,
)
from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.geometry.pose import matrix_from_pose, pose_from_matrix

_log = logging.getLogger(__name__)

TYPES: dict[type, str] = {
    Image: "sensor_msgs/msg/Image",
    CompressedImage: "sensor_msgs/msg/CompressedImage",
    CameraInfo: "sensor_msgs/msg/CameraInfo",
    PointCloud: "sensor_msgs/msg/PointCloud2",
    Transforms: "tf2_msgs/msg/TFMessage",
    ObjectBoxes: "vision_msgs/msg/Detection3DArray",
}
"""ROS type of each of kd3d's messages."""

_Types = Mapping[str, Any]
_POINT_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_FLOAT32 = 7


def encode(message: Message, types: _Types) -> Any:
    """kd3d's message as an instance of the store's class for `TYPES[type(message)]`."""
    return _ENCODERS[type(message)](message, types)


def decode(message: Any, type_name: str) -> Message:
    """A store's message of ROS type `type_name` as kd3d's own.

    Raises:
        DataError: kd3d has no message for this type, or its contents contradict each other.
    """
    decoder = _DECODERS.get(type_name)
    if decoder is None:
        raise DataError(f"{type_name} is none of the types that kd3d reads: {', '.join(_DECODERS)}")
    return decoder(message)


def _header(types: _Types, stamp_ns: int, frame_id: str) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 10**9))
    return types["std_msgs/msg/Header"](stamp, frame_id)


def _stamp_ns(header: Any) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def _encode_image(image: Image, types: _Types) -> Any:
    return types[TYPES[Image]](
        header=_header(types, image.stamp_ns, image.frame_id),
        height=image.height,
        width=image.width,
        encoding=image.encoding,
        is_bigendian=0,
        step=image.step,
        data=image.data,
    )


def _decode_image(message: Any) -> Image:
    return Image(
        _stamp_ns(message.header),
        message.header.frame_id,
        int(message.height),
        int(message.width),
        message.encoding,
        int(message.step),
        np.asarray(message.data, np.uint8),
    )


def _encode_compressed(image: CompressedImage, types: _Types) -> Any:
    header = _header(types, image.stamp_ns, image.frame_id)
    return types[TYPES[CompressedImage]](header=header, format=image.layout, data=image.data)


def _decode_compressed(message: Any) -> CompressedImage:
    return CompressedImage(
        _stamp_ns(message.header),
        message.header.frame_id,
        message.format,
        np.asarray(message.data, np.uint8),
    )


def _encode_camera_info(info: CameraInfo, types: _Types) -> Any:
    region = types["sensor_msgs/msg/RegionOfInterest"]
    return types[TYPES[CameraInfo]](
        header=_header(types, info.stamp_ns, info.frame_id),
        height=info.height,
        width=info.width,
        distortion_model=info.distortion_model,
        d=info.d,
        k=info.k,
        r=info.r,
        p=info.p,
        binning_x=info.binning_x,
        binning_y=info.binning_y,
        roi=region(**asdict(info.roi)),
    )


def _decode_camera_info(message: Any) -> CameraInfo:
    d, k, r, p = (np.array(getattr(message, name), np.float64) for name in "dkrp")
    roi = message.roi
    return CameraInfo(
        _stamp_ns(message.header),
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
            int(roi.x_offset), int(roi.y_offset), int(roi.height), int(roi.width), roi.do_rectify
        ),
    )


def _encode_cloud(cloud: PointCloud, types: _Types) -> Any:
    field = types["sensor_msgs/msg/PointField"]
    points = np.ascontiguousarray(cloud.points, "<f4")
    return types[TYPES[PointCloud]](
        header=_header(types, cloud.stamp_ns, cloud.frame_id),
        height=1,
        width=len(points),
        fields=[
            field(name=name, offset=4 * index, datatype=_FLOAT32, count=1)
            for index, name in enumerate(("x", "y", "z", "intensity"))
        ],
        is_bigendian=False,
        point_step=16,
        row_step=16 * len(points),
        data=points.reshape(-1).view(np.uint8),
        is_dense=bool(np.isfinite(points).all()),
    )


def _decode_cloud(message: Any) -> PointCloud:
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
        if name not in fields:
            if name == "intensity":
                continue
            raise DataError(f"the cloud has no field {name!r}, only {', '.join(fields)}")
        field = fields[name]
        dtype = np.dtype(order + _POINT_DTYPES[int(field.datatype)])
        end = int(field.offset) + dtype.itemsize
        if end > step:
            raise DataError(f"field {name!r} ends at byte {end} of a point of {step} bytes")
        values = np.ascontiguousarray(packed[:, int(field.offset) : end])
        points[:, column] = values.view(dtype)[:, 0]
    return PointCloud(_stamp_ns(message.header), message.header.frame_id, points)


def _encode_transforms(message: Transforms, types: _Types) -> Any:
    return types[TYPES[Transforms]](
        transforms=[_encode_transform(transform, types) for transform in message.transforms]
    )


def _encode_transform(transform: Transform, types: _Types) -> Any:
    translation, quaternion = pose_from_matrix(transform.parent_from_child)
    return types["geometry_msgs/msg/TransformStamped"](
        header=_header(types, transform.stamp_ns, transform.parent),
        child_frame_id=transform.child,
        transform=types["geometry_msgs/msg/Transform"](
            translation=_vector(types, "Vector3", translation),
            rotation=_vector(types, "Quaternion", quaternion),
        ),
    )


def _decode_transforms(message: Any) -> Transforms:
    found = (_decode_transform(stamped) for stamped in message.transforms)
    return Transforms(tuple(transform for transform in found if transform is not None))


def _decode_transform(stamped: Any) -> Transform | None:
    """None, and a warning, if it is no pose: others in the message may be good."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    parent, child = stamped.header.frame_id, stamped.child_frame_id
    try:
        matrix = matrix_from_pose((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
    except CalibrationError as error:
        _log.warning("the transform %s -> %s is left out: %s", parent, child, error)
        return None
    return Transform(_stamp_ns(stamped.header), parent, child, matrix)


def _vector(types: _Types, name: str, values: Any) -> Any:
    return types[f"geometry_msgs/msg/{name}"](*(float(value) for value in values))


def _encode_boxes(message: ObjectBoxes, types: _Types) -> Any:
    from kd3d_core.geometry.boxes import to_ros  # imports torch

    header = _header(types, message.stamp_ns, message.frame_id)
    detections = []
    for center, quaternion, size, name, score in zip(
        *to_ros(message.boxes), message.names, message.scores, strict=True
    ):
        pose = types["geometry_msgs/msg/Pose"](
            position=_vector(types, "Point", center),
            orientation=_vector(types, "Quaternion", quaternion),
        )
        hypothesis = types["vision_msgs/msg/ObjectHypothesisWithPose"](
            hypothesis=types["vision_msgs/msg/ObjectHypothesis"](name, float(score)),
            pose=types["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        )
        box = types["vision_msgs/msg/BoundingBox3D"](pose, _vector(types, "Vector3", size))
        detections.append(
            types["vision_msgs/msg/Detection3D"](
                header=header, results=[hypothesis], bbox=box, id=""
            )
        )
    return types[TYPES[ObjectBoxes]](header=header, detections=detections)


def _decode_boxes(message: Any) -> ObjectBoxes:
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
        _stamp_ns(message.header),
        message.header.frame_id,
        from_ros(np.array(centers), np.array(quaternions), np.array(sizes)),
        tuple(names),
        np.array(scores, np.float64),
    )


_ENCODERS: dict[type, Callable[[Any, _Types], Any]] = {
    Image: _encode_image,
    CompressedImage: _encode_compressed,
    CameraInfo: _encode_camera_info,
    PointCloud: _encode_cloud,
    Transforms: _encode_transforms,
    ObjectBoxes: _encode_boxes,
}
_DECODERS: dict[str, Callable[[Any], Message]] = {
    "sensor_msgs/msg/Image": _decode_image,
    "sensor_msgs/msg/CompressedImage": _decode_compressed,
    "sensor_msgs/msg/CameraInfo": _decode_camera_info,
    "sensor_msgs/msg/PointCloud2": _decode_cloud,
    "tf2_msgs/msg/TFMessage": _decode_transforms,
    "vision_msgs/msg/Detection3DArray": _decode_boxes,
}
