"""Messages against readers that share no code with their writer."""

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_detector import FakeDetector, answer
from node_helpers import image_message
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.messages.decode import decode, image_in_cdr, stamp_ns
from kd3d_core.messages.encode import encode
from kd3d_core.messages.markers import encode_markers
from kd3d_core.messages.types import Image, ObjectBoxes, PointCloud
from kd3d_core.runtime.detections import Detections
from kd3d_core.visual.colors import class_color
from kd3d_ros.inputs import read as read_input

HEADER = Header(frame_id="lidar")
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 345
NAMES = FakeDetector.class_names


def read(encoded: bytes, kind: Any) -> Any:
    """What subscribers get, and that rclpy's own bytes of it are as many and mean the same."""
    message = deserialize_message(encoded, kind)
    own = serialize_message(message)
    assert len(own) == len(encoded)  # rclpy leaves any bytes in the gaps, so these may differ
    assert deserialize_message(own, kind) == message
    return message


def read_points(points: np.ndarray, header: Header = HEADER) -> PointCloud2:
    cloud = PointCloud(stamp_ns(header), header.frame_id, points)
    return read(encode(cloud), PointCloud2)


def objects(
    detections: Detections, names: Sequence[str] = NAMES, header: Header = HEADER
) -> ObjectBoxes:
    return ObjectBoxes(
        stamp_ns(header),
        header.frame_id,
        detections.boxes,
        tuple(names[label] for label in detections.labels),
        detections.scores.astype(np.float64),
    )


def read_detections(found: ObjectBoxes) -> Detection3DArray:
    return read(encode(found), Detection3DArray)


def read_markers(found: ObjectBoxes) -> MarkerArray:
    return read(encode_markers(found, class_color), MarkerArray)


def test_pixels_of_images_are_not_copied() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    sent = image_message(pixels, "bgr8", stamp=1.5, padding=2)
    image = read_input(serialize_message(sent), Image)
    assert (image.stamp_ns, image.frame_id) == (1_500_000_000, sent.header.frame_id)
    np.testing.assert_array_equal(image.rgb(), pixels[..., ::-1])
    again = decode(sent, Image.ros_type)
    assert np.shares_memory(again.rgb(), np.frombuffer(sent.data, np.uint8))


@pytest.mark.parametrize("encoding", ["", "mono8", "bayer_rggb8", "16UC1"])
@pytest.mark.parametrize("frame", ["", "a", "caméra", "camera_optical"])
def test_images_are_read_as_rclpy_reads_them(frame: str, encoding: str) -> None:
    sent = image_message(np.arange(35, dtype=np.uint8).reshape(5, 7, 1), encoding, stamp=1.5)
    sent.header.frame_id, sent.is_bigendian = frame, 1
    data = serialize_message(sent)
    image, expected = (
        image_in_cdr(data),
        decode(deserialize_message(data, type(sent)), Image.ros_type),
    )
    assert np.shares_memory(image.data, np.frombuffer(data, np.uint8))
    np.testing.assert_array_equal(image.data, expected.data)
    assert replace(image, data=expected.data).__dict__ == expected.__dict__
    for end in range(len(data) - 1):
        with pytest.raises(ValueError, match=r"ends after|another encoding"):
            image_in_cdr(data[:end])


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_points(count: int) -> None:
    points = answer(points=count).points
    message = read_points(points)
    assert message.header == HEADER
    assert (message.height, message.width, message.point_step) == (1, count, 16)
    assert message.row_step == len(message.data) == 16 * count
    assert [(f.name, f.offset, f.datatype, f.count) for f in message.fields] == [
        ("x", 0, 7, 1), ("y", 4, 7, 1), ("z", 8, 7, 1), ("intensity", 12, 7, 1),
    ]  # fmt: skip
    assert not message.is_bigendian
    assert message.is_dense
    unpacked = list(struct.iter_unpack("<ffff", bytes(message.data)))
    np.testing.assert_array_equal(np.array(unpacked, np.float32).reshape(-1, 4), points)


def test_points_that_are_not_contiguous() -> None:
    points = np.arange(48.0).reshape(6, 8)[:, ::2]
    message = read_points(points)
    unpacked = np.array(list(struct.iter_unpack("<ffff", bytes(message.data))))
    np.testing.assert_array_equal(unpacked, points)


def test_detections() -> None:
    detections = answer(boxes=5)
    message = read_detections(objects(detections))
    assert message.header == HEADER
    assert len(message.detections) == 5
    for i, detection in enumerate(message.detections):
        x, y, z_bottom, length, width, height, yaw = detections.boxes[i].tolist()
        assert detection.header == HEADER
        assert detection.id == ""
        position, turn = detection.bbox.center.position, detection.bbox.center.orientation
        assert (position.x, position.y) == (x, y)
        assert position.z == pytest.approx(z_bottom + height / 2)
        assert (turn.x, turn.y) == (0, 0)
        assert 2 * np.arctan2(turn.z, turn.w) == pytest.approx(yaw)
        size = detection.bbox.size
        assert (size.x, size.y, size.z) == (length, width, height)
        (result,) = detection.results
        assert result.hypothesis.class_id == NAMES[detections.labels[i]]
        assert result.hypothesis.score == pytest.approx(float(detections.scores[i]))
        assert result.pose.pose == detection.bbox.center


def test_no_detections() -> None:
    assert read_detections(objects(answer(boxes=0))).detections == []
    (only,) = read_markers(objects(answer(boxes=0))).markers
    assert only.action == Marker.DELETEALL


def test_markers() -> None:
    detections = answer(boxes=3)
    message = read_markers(objects(detections))
    delete, *rest = message.markers
    wires, texts = rest[:3], rest[3:]  # one box of each class
    assert delete.action == Marker.DELETEALL
    assert all(marker.header == HEADER for marker in message.markers)
    assert all(marker.action == Marker.ADD for marker in rest)
    assert all(marker.lifetime.sec > 0 for marker in rest)  # of a camera that stops none stay
    assert len({(marker.ns, marker.id) for marker in rest}) == len(rest)
    for name, marker in zip(NAMES, wires, strict=True):
        rgb = np.array(class_color(name)) / 255
        np.testing.assert_allclose((marker.color.r, marker.color.g, marker.color.b), rgb, atol=1e-6)
        assert marker.color.a == 1
    for box, marker in zip(detections.boxes.astype(float), wires, strict=True):
        assert marker.type == Marker.LINE_LIST
        assert marker.pose.orientation.w == 1
        assert marker.scale.x > 0
        lines = np.array([(p.x, p.y, p.z) for p in marker.points]).reshape(13, 2, 3)
        edges, (tail, nose) = lines[:12], lines[12]
        corners = np.unique(edges.reshape(-1, 3).round(5), axis=0)
        expected = np.unique(box_geometry.corners(box[None])[0].round(5), axis=0)
        np.testing.assert_allclose(corners, expected, atol=1e-4)
        lengths = np.sort(np.linalg.norm(edges[:, 0] - edges[:, 1], axis=1))
        np.testing.assert_allclose(lengths, np.sort(np.repeat(box[3:6], 4)), atol=1e-4)
        heading = (nose - tail) / np.linalg.norm(nose - tail)
        np.testing.assert_allclose(heading, [np.cos(box[6]), np.sin(box[6]), 0], atol=1e-6)
        assert np.linalg.norm(nose - tail) > box[3] / 2

    assert [text.text for text in texts] == ["Car 0.90", "Pedestrian 0.55", "Cyclist 0.20"]
    for box, text, lines in zip(detections.boxes, texts, wires, strict=True):
        assert text.color == lines.color
        assert text.type == Marker.TEXT_VIEW_FACING
        assert text.pose.orientation.w == 1
        assert text.pose.position.z > box[2] + box[5]


def test_markers_of_one_class_are_one_line_list() -> None:
    detections = answer(boxes=6)
    wires = [m for m in read_markers(objects(detections)).markers if m.type == Marker.LINE_LIST]
    assert [len(marker.points) for marker in wires if marker.action == Marker.ADD] == [52] * 3


@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "abcd", "Kamera für vorn"])
@pytest.mark.parametrize("name", ["", "Car", "Fußgänger"])
def test_names_of_any_length(frame: str, name: str) -> None:
    header = Header(frame_id=frame)
    detections = answer(points=3, boxes=3)
    found = objects(detections, (name,) * 3, header)
    boxes = read_detections(found)
    assert [box.results[0].hypothesis.class_id for box in boxes.detections] == [name] * 3
    markers = read_markers(found)
    assert [text.text for text in markers.markers[2:]] == [
        f"{name} {s}".strip() for s in ("0.90", "0.55", "0.20")
    ]
    assert all(marker.header == header for marker in (*boxes.detections, *markers.markers))
    assert read_points(detections.points, header).header == header
