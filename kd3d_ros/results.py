"""What the node publishes of a frame."""

import time

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, Header
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.pose import pose_from_matrix
from kd3d_core.runtime.detections import Detections
from kd3d_core.visual.markers import markers_message
from kd3d_ros.convert import detections_message, encoded_header, points_message

# Reliable matches every subscriber; shallow, because old results are worth nothing.
_RESULTS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class ResultPublisher:
    """Publishes points, boxes and markers of a frame, each only if somebody subscribes to it."""

    def __init__(self, node: Node, frame_id: str) -> None:
        """
        Args:
            node: whose publishers these are.
            frame_id: frame of all results.
        """
        self.frame_id = frame_id
        self._points = node.create_publisher(PointCloud2, "~/points", _RESULTS)
        self._detections = node.create_publisher(Detection3DArray, "~/detections", _RESULTS)
        self._markers = node.create_publisher(MarkerArray, "~/markers", _RESULTS)
        self._processing_time = node.create_publisher(Float64, "~/debug/processing_time_ms", 5)
        self._latency = node.create_publisher(Float64, "~/debug/pipeline_latency_ms", 5)
        self._tf_static = node.create_publisher(TFMessage, "/tf_static", _LATCHED)

    def is_watched(self) -> bool:
        """Whether anybody subscribes to points, detections or markers."""
        outputs = (self._points, self._detections, self._markers)
        return any(publisher.get_subscription_count() for publisher in outputs)

    def publish(
        self, detections: Detections, class_names: tuple[str, ...], image_header: Header
    ) -> None:
        """Publish what somebody subscribes to, with the image's stamp; the rest isn't even made."""
        header = Header(stamp=image_header.stamp, frame_id=self.frame_id)
        # Everything is made before anything is sent, and the largest is sent first: subscribers
        # wake up at the first message and then want the CPU as well.
        ready: list[tuple[Publisher, bytes]] = []
        if self._points.get_subscription_count():
            ready.append((self._points, points_message(detections.points, header)))
        if self._detections.get_subscription_count():
            boxes = detections_message(detections, class_names, header)
            ready.append((self._detections, boxes))
        if self._markers.get_subscription_count():
            markers = markers_message(detections, class_names, encoded_header(header))
            ready.append((self._markers, markers))
        for publisher, message in ready:
            publisher.publish(message)

    def publish_times(self, processing_ms: float, latency_ms: float) -> None:
        """Publish how long a frame took, since its arrival and since its stamp."""
        for publisher, value in (
            (self._processing_time, processing_ms),
            (self._latency, latency_ms),
        ):
            if publisher.get_subscription_count():
                publisher.publish(Float64(data=value))

    def publish_virtual_frame(self, camera: PinholeCamera, image_header: Header) -> None:
        """Tell TF where the frame of the results is, as a child of the image's frame."""
        move, turn = pose_from_matrix(camera.camera_from_lidar)
        stamped = TransformStamped(
            header=image_header,
            child_frame_id=self.frame_id,
            transform=Transform(
                translation=Vector3(x=move[0], y=move[1], z=move[2]),
                rotation=Quaternion(x=turn[0], y=turn[1], z=turn[2], w=turn[3]),
            ),
        )
        self._tf_static.publish(TFMessage(transforms=[stamped]))

    def flush(self, timeout_s: float) -> None:
        """Wait until reliable subscribers have everything; a process that ends takes it along."""
        end = time.monotonic() + timeout_s
        for publisher in (self._points, self._detections, self._markers):
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, end - time.monotonic())))
