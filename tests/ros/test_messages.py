"""Messages against readers that share no code with their writer."""

import struct
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_detector import FakeDetector, answer
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import image_message
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from kd3d_core.data.cdr import CdrWriter
from kd3d_core.errors import ImageError
from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.rejection import BadImageError
from kd3d_core.visual.colors import class_color
from kd3d_core.visual.markers import markers_message
from kd3d_ros import convert
from kd3d_ros.convert import detections_message, encoded_header, image_view, points_message

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


def read_points(points: np.ndarray) -> PointCloud2:
    return read(points_message(points, HEADER), PointCloud2)


def read_detections(detections: Detections) -> Detection3DArray:
    return read(detections_message(detections, NAMES, HEADER), Detection3DArray)


def read_markers(detections: Detections) -> MarkerArray:
    return read(markers_message(detections, NAMES, encoded_header(HEADER)), MarkerArray)


Install = Callable[[Any], None]


@pytest.fixture
def install_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts something in the place of the module cv_bridge; None: as if it weren't installed."""
    convert._cv_bridge.cache_clear()
    yield lambda module: monkeypatch.setitem(sys.modules, "cv_bridge", module)
    convert._cv_bridge.cache_clear()


def random_pixels(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@given(
    st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "mono8"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_image_view(encoding: str, height: int, width: int, padding: int) -> None:
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}[encoding]
    pixels = random_pixels(height, width, channels)
    message = image_message(pixels, encoding, padding=padding)
    view = image_view(message)
    assert view.dtype == np.uint8
    order = {"bgr8": [2, 1, 0], "bgra8": [2, 1, 0], "mono8": [0, 0, 0]}.get(encoding, [0, 1, 2])
    np.testing.assert_array_equal(view, pixels[..., order])
    assert np.shares_memory(view, np.frombuffer(message.data, np.uint8))


@pytest.mark.parametrize(
    ("field", "value", "kind", "text"),
    [
        ("width", 0, "zero_size", "0 x 48"),
        ("height", 0, "zero_size", "64 x 0"),
        ("step", 64, "wrong_step", "step 64, but 64 pixels of rgb8 are 192 bytes"),
        ("step", 0, "wrong_step", "step 0"),
        ("step", 200, "short_data", "9216 bytes, but step 200 x height 48 are 9600"),
        ("height", 49, "short_data", "incomplete"),
        ("encoding", "", "unknown_encoding", "''"),
        ("encoding", "bayer_rggb8", "unknown_encoding", "'bayer_rggb8'.*install"),
    ],
)
def test_bad_image(
    field: str, value: Any, kind: str, text: str, install_cv_bridge: Install
) -> None:
    install_cv_bridge(None)
    message = image_message()
    setattr(message, field, value)
    with pytest.raises(BadImageError, match=text) as caught:
        image_view(message)
    assert caught.value.kind == kind
    assert isinstance(caught.value, ImageError)


class StandInBridge:
    """What the conversion needs of cv_bridge, which PyPI doesn't have."""

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> np.ndarray:
        if message.encoding != "mono16":
            raise ValueError("cannot convert")
        assert encoding == "rgb8"
        return np.full((message.height, message.width, 3), 9, np.uint8)


def test_cv_bridge_that_fails_is_not_tried_again(install_cv_bridge: Install) -> None:
    tries: list[str] = []

    def fail() -> None:
        tries.append("CvBridge()")
        raise AttributeError("_ARRAY_API not found")

    install_cv_bridge(SimpleNamespace(CvBridge=fail))
    message = image_message(encoding="bayer_rggb8")
    for _ in range(3):
        with pytest.raises(BadImageError, match="_ARRAY_API not found"):
            image_view(message)
    assert len(tries) == 1


def test_other_encodings_go_through_cv_bridge(install_cv_bridge: Install) -> None:
    install_cv_bridge(SimpleNamespace(CvBridge=StandInBridge))
    message = image_message(random_pixels(4, 6, 2), "mono16")
    view = image_view(message)
    assert view.shape == (4, 6, 3)
    assert (view == 9).all()
    message.encoding = "nonsense"
    with pytest.raises(BadImageError, match="'nonsense' into rgb8"):
        image_view(message)


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
    message = read_detections(detections)
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
    assert read_detections(answer(boxes=0)).detections == []
    (only,) = read_markers(answer(boxes=0)).markers
    assert only.action == Marker.DELETEALL


def test_markers() -> None:
    detections = answer(boxes=3)
    message = read_markers(detections)
    delete, *rest = message.markers
    wires, texts = rest[:3], rest[3:]  # one box of each class
    assert delete.action == Marker.DELETEALL
    assert all(marker.header == HEADER for marker in message.markers)
    assert all(marker.action == Marker.ADD for marker in rest)
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
    wires = [m for m in read_markers(detections).markers if m.type == Marker.LINE_LIST]
    assert [len(marker.points) for marker in wires if marker.action == Marker.ADD] == [52] * 3


@given(st.text(), st.sampled_from("bBhHiIqQfd?"), st.integers(0, 3), st.text())
def test_fields_of_any_width_between_strings(
    before: str, code: str, count: int, after: str
) -> None:
    """Alignment, against numbers read back at the next multiple of their size."""
    writer = CdrWriter()
    writer.text(before)
    writer.array(np.arange(count).astype(np.dtype(code)))
    writer.text(after)
    content = writer.content()

    end = 4 + len(before.encode()) + 1
    assert content[:end] == struct.pack("<I", end - 4) + before.encode() + b"\0"
    if count:
        size = struct.calcsize("<" + code)
        start = -(-end // size) * size
        end = start + count * size
        expected = tuple(np.arange(count).astype(np.dtype(code)).tolist())
        assert struct.unpack(f"<{count}{code}", content[start:end]) == expected
    start = -(-end // 4) * 4
    assert content[start:] == struct.pack("<I", len(after.encode()) + 1) + after.encode() + b"\0"


@pytest.mark.parametrize("frame", ["", "a", "ab", "abc", "abcd", "Kamera für vorn"])
@pytest.mark.parametrize("name", ["", "Car", "Fußgänger"])
def test_names_of_any_length(frame: str, name: str) -> None:
    header = Header(frame_id=frame)
    detections = answer(points=3, boxes=3)
    boxes = read(detections_message(detections, (name,) * 3, header), Detection3DArray)
    assert [box.results[0].hypothesis.class_id for box in boxes.detections] == [name] * 3
    encoded = markers_message(detections, (name,) * 3, encoded_header(header))
    markers = read(encoded, MarkerArray)
    assert [text.text for text in markers.markers[4:]] == [
        f"{name} {s}" for s in ("0.90", "0.55", "0.20")
    ]
    assert all(marker.header == header for marker in (*boxes.detections, *markers.markers))
    assert read(points_message(detections.points, header), PointCloud2).header == header
