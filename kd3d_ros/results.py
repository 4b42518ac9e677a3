"""What the node publishes of its frames."""

import time
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Generic

import cv2
import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

from kd3d_core.frames import FrameResult
from kd3d_core.messages.encode import encode
from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import CompressedImage, Image, Transforms
from kd3d_core.messages.vision import ImageObjects, LabelInfo, encode_image_objects
from kd3d_core.outputs import (
    FRAME_OUTPUTS,
    LABEL_INFO,
    STATIC_TRANSFORMS,
    TIME_OUTPUTS,
    TRANSFORMS,
    Content,
    FrameTimes,
    Output,
)
from kd3d_ros.parameters import ResultFrames
from kd3d_ros.qos import QosOverrides
from kd3d_ros.raw import message_class, ros_qos


def _depth(result: FrameResult) -> bytes | None:
    """A depth image as REP 118 has it: metres in float32, NaN where nothing is known."""
    frame = result.frame
    depth = result.detections.depth_image(frame.camera)
    if depth is None:
        return None
    (height, width), data = depth.shape, depth.view(np.uint8).reshape(-1)
    return encode(
        Image(frame.stamp_ns, frame.camera_frame, height, width, "32FC1", 4 * width, data)
    )


def _debug_image(result: FrameResult) -> bytes:
    frame = result.frame
    return encode(Image.from_rgb(result.annotated, frame.stamp_ns, frame.camera_frame))


def _debug_jpeg(result: FrameResult) -> bytes:
    _, jpeg = cv2.imencode(".jpg", result.annotated[..., ::-1])
    frame = result.frame
    return encode(CompressedImage(frame.stamp_ns, frame.camera_frame, "jpeg", jpeg))


_QOS = QosProfile(depth=2)  # images are large
NODE_OUTPUTS: tuple[Output[FrameResult], ...] = (
    Output(
        "~/detections_2d",
        ImageObjects.ros_type,
        lambda result: encode_image_objects(result.in_image),
        QosProfile(depth=5),
    ),
    Output("~/depth", Image.ros_type, _depth, _QOS),
    Output("~/debug_image", Image.ros_type, _debug_image, _QOS),
    Output("~/debug_image/compressed", CompressedImage.ros_type, _debug_jpeg, _QOS),
)
"""What only a node gives out: in a bag, boxes and CameraInfo say it, or it would be too large."""


class Publishers(Generic[Content]):
    """Publishes what the rows of a table make of the same content; what nobody wants isn't made."""

    def __init__(
        self,
        node: Node,
        overrides: QosOverrides,
        outputs: Iterable[Output[Content]],
        on_matched: Callable[[], object] | None = None,
    ) -> None:
        """
        Args:
            node: whose publishers these are.
            overrides: of their QoS.
            outputs: the rows.
            on_matched: called when subscribers come or go, where this release of rclpy tells it.
        """
        self._rows = []
        for output in outputs:
            topic = node.resolve_topic_name(output.name)
            publisher = node.create_publisher(
                message_class(output.ros_type),
                output.name,
                ros_qos(overrides.of(topic, "publisher", output.qos)),
                event_callbacks=None if on_matched is None else _matched_events(on_matched),
            )
            self._rows.append((output, publisher))

    @property
    def topics(self) -> list[str]:
        """Their names."""
        return [publisher.topic_name for _, publisher in self._rows]

    def is_watched(self) -> bool:
        """Whether anybody subscribes to one of them."""
        return any(publisher.get_subscription_count() for _, publisher in self._rows)

    def publish(self, content: Content) -> None:
        """Publish every message that somebody subscribes to, or may later where it is latched."""
        # Everything is made before anything is sent: subscribers wake up at the first message and
        # then want the CPU as well.
        messages = [
            (publisher, output.encode(content))
            for output, publisher in self._rows
            if output.qos.is_latched or publisher.get_subscription_count()
        ]
        for publisher, message in messages:
            if message is not None:
                publisher.publish(message)

    def flush(self, timeout_s: float) -> None:
        """Wait until reliable subscribers have everything; a process that ends takes it along."""
        end = time.monotonic() + timeout_s
        for _, publisher in self._rows:
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, end - time.monotonic())))


def _matched_events(on_matched: Callable[[], object]) -> PublisherEventCallbacks:
    if "matched" not in signature(PublisherEventCallbacks).parameters:
        return PublisherEventCallbacks()

    def matched(event: object) -> None:
        on_matched()

    return PublisherEventCallbacks(matched=matched)


class NodeOutputs:
    """All that the node publishes of its frames.

    Attributes:
        frames: of the detector and the results.
        results: points, boxes, markers, images.
        times: how long frames took.
        label_info: the classes of the model.
        transforms: where the virtual frame is, if it moves against the camera.
        static_transforms: where the virtual frame is, if it doesn't.
        topics: names of all of them.
    """

    def __init__(
        self, node: Node, overrides: QosOverrides, on_matched: Callable[[], object]
    ) -> None:
        """
        Args:
            node: whose publishers these are.
            overrides: of their QoS.
            on_matched: called when subscribers to results come or go.
        """
        self.frames = ResultFrames("", "")
        rows = (*FRAME_OUTPUTS, *NODE_OUTPUTS)
        self.results: Publishers[FrameResult] = Publishers(node, overrides, rows, on_matched)
        self.times: Publishers[FrameTimes] = Publishers(node, overrides, TIME_OUTPUTS)
        self.label_info: Publishers[LabelInfo] = Publishers(node, overrides, [LABEL_INFO])
        self.transforms: Publishers[Transforms] = Publishers(node, overrides, [TRANSFORMS])
        self.static_transforms: Publishers[Transforms] = Publishers(
            node, overrides, [STATIC_TRANSFORMS]
        )
        self.topics = {
            topic
            for publishers in (
                *(self.results, self.times, self.label_info),
                *(self.transforms, self.static_transforms),
            )
            for topic in publishers.topics
        }
