"""What the node publishes of its frames."""

import time
from collections.abc import Iterable
from typing import Generic

from rclpy.duration import Duration
from rclpy.node import Node

from kd3d_core.frames import FrameResult
from kd3d_core.messages.types import Transforms
from kd3d_core.outputs import (
    FRAME_OUTPUTS,
    STATIC_TRANSFORMS,
    TIME_OUTPUTS,
    Content,
    FrameTimes,
    Output,
)
from kd3d_ros.raw import message_class, ros_qos


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
        results: points, boxes, markers.
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
        self.results: Publishers[FrameResult] = Publishers(node, FRAME_OUTPUTS)
        self.times: Publishers[FrameTimes] = Publishers(node, TIME_OUTPUTS)
        self.static_transforms: Publishers[Transforms] = Publishers(node, [STATIC_TRANSFORMS])
