"""What `kd3d-detect` finds in a bag is what the node publishes for the same messages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from node_helpers import Camera, Spinner
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from kd3d_core.data.bag import BagReader
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import IMAGE_TOPIC, INFO_TOPIC, TF_TOPIC, write_kitti_bag
from kd3d_core.offline.bag_source import BagSettings, bag_source
from kd3d_core.offline.run import Outcome, detect_frames
from kd3d_core.offline.sinks import BagSink
from kd3d_core.offline.store import ResultStore
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_ros.detector_node import DetectorNode

pytestmark = pytest.mark.usefixtures("ros")

POINTS_TOPIC = "/kd3d_detector/points"
DETECTIONS_TOPIC = "/kd3d_detector/detections"
MARKERS_TOPIC = "/kd3d_detector/markers"
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def lite() -> CameraDetector:
    return CameraDetector.from_config("lite", "cpu")


@pytest.fixture(scope="module")
def bag(tracking: KittiDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "drive"
    write_kitti_bag(tracking.subset(tracking.names[:2]), path)
    return path


def published(detector: CameraDetector, bag: Path, detector_frame: str) -> dict[str, list]:
    """The node's messages, by topic, for the messages of a bag."""
    parameter = Parameter("detector_frame", value=detector_frame)
    node = DetectorNode(lambda *_: detector, parameter_overrides=[parameter])
    camera = Camera()
    transforms: list[TFMessage] = []
    markers: list[MarkerArray] = []
    with Spinner(node, camera) as spinner, BagReader(bag) as reader:
        camera.listen(MarkerArray, MARKERS_TOPIC, markers)
        spinner.until("connected", camera.is_connected)
        if detector_frame:
            static = camera.create_publisher(TFMessage, "/tf_static", LATCHED)
            spinner.until("the node hears of transforms", static.get_subscription_count)
            for raw in reader.messages((TF_TOPIC,)):
                static.publish(deserialize_message(raw.data, TFMessage))
        for raw in reader.messages((INFO_TOPIC,)):
            camera.infos.publish(deserialize_message(raw.data, CameraInfo))
        for count, raw in enumerate(reader.messages((IMAGE_TOPIC,)), 1):
            camera.images.publish(deserialize_message(raw.data, Image))
            spinner.until(
                "results",
                lambda count=count: (
                    {count} == {len(each) for each in (camera.points, camera.detections, markers)}
                ),
                limit_s=30.0,
            )
        if not detector_frame:
            camera.listen(TFMessage, "/tf_static", transforms, LATCHED)
            spinner.until("the virtual frame", lambda: transforms)
        node.finish()
    return {
        POINTS_TOPIC: camera.points,
        DETECTIONS_TOPIC: camera.detections,
        MARKERS_TOPIC: markers,
        TF_TOPIC: transforms,
    }


def numbers(vector: Any) -> list[float]:
    return [getattr(vector, name) for name in "xyzw" if hasattr(vector, name)]


@pytest.mark.parametrize("detector_frame", ["velodyne", ""])
def test_points_detections_and_markers_are_those_of_the_node(
    lite: CameraDetector, bag: Path, tmp_path: Path, detector_frame: str
) -> None:
    expected = published(lite, bag, detector_frame)
    source = bag_source(bag, BagSettings(detector_frame=detector_frame), slice(None))
    store = ResultStore(tmp_path / "results", "lite")
    sink = BagSink(tmp_path / "found", overwrite=False)
    assert detect_frames(source, lite, store, [sink]) == Outcome(2, 0, ())

    found: dict[str, list] = {}
    with BagReader(tmp_path / "found") as reader:
        for raw in reader.messages():
            kind = type(expected[raw.topic][0])
            found.setdefault(raw.topic, []).append(deserialize_message(raw.data, kind))
    for topic in (POINTS_TOPIC, DETECTIONS_TOPIC, MARKERS_TOPIC):
        assert found[topic] == expected[topic]
    assert all(array.detections for array in found[DETECTIONS_TOPIC])
    assert all(len(array.markers) > 2 for array in found[MARKERS_TOPIC])
    transforms = expected[TF_TOPIC]
    assert len(found.get(TF_TOPIC, [])) == len(transforms)
    for ours, theirs in zip(found.get(TF_TOPIC, []), transforms, strict=True):
        (one,), (other,) = ours.transforms, theirs.transforms
        assert (one.header, one.child_frame_id) == (other.header, other.child_frame_id)
        for part in ("translation", "rotation"):
            np.testing.assert_allclose(
                numbers(getattr(one.transform, part)), numbers(getattr(other.transform, part))
            )
