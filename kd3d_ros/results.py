"""What the node publishes of its frames."""

import time
from collections.abc import Iterable
from typing import Generic

import cv2
import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node

from kd3d_core.frames import FrameResult
from kd3d_core.messages.encode import encode
from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import CompressedImage, Image, Transforms
from kd3d_core.outputs import (
    FRAME_OUTPUTS,
    STATIC_TRANSFORMS,
    TIME_OUTPUTS,
    Content,
    FrameTimes,
    Output,
)
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


_QOS = QosProfile(depth=2)  # they are large
IMAGE_OUTPUTS: tuple[Output[FrameResult], ...] = (
    Output("~/depth", Image.ros_type, _depth, _QOS),
    Output("~/debug_image", Image.ros_type, _debug_image, _QOS),
    Output("~/debug_image/compressed", CompressedImage.ros_type, _debug_jpeg, _QOS),
)
"""What only a node gives out: in a bag they would be larger than all the rest."""


class Publishers(Generic[Content]):
    """Publishes what the rows of a table make of the same content; what nobody wants isn't made."""

    def __init__(self, node: Node, outputs: Iterable[Output[Content]]) -> None:
        """
        Args:
            node: whose publishers these are.
            outputs: the rows.
        """
        self._rows = [
            (
                output,
                node.create_publisher(
                    message_class(output.ros_type), output.name, ros_qos(output.qos)
                ),
            )
            for output in outputs
        ]

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


class NodeOutputs:
    """All that the node publishes of its frames.

    Attributes:
        frame_id: frame of all results.
        results: points, boxes, markers, images.
        times: how long frames took.
        static_transforms: where the virtual frame is.
    """

    def __init__(self, node: Node, frame_id: str) -> None:
        """
        Args:
            node: whose publishers these are.
            frame_id: frame of all results.
        """
        self.frame_id = frame_id
        self.results: Publishers[FrameResult] = Publishers(node, (*FRAME_OUTPUTS, *IMAGE_OUTPUTS))
        self.times: Publishers[FrameTimes] = Publishers(node, TIME_OUTPUTS)
        self.static_transforms: Publishers[Transforms] = Publishers(node, [STATIC_TRANSFORMS])
