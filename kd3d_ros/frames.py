"""What the node hears of coordinate frames, on /tf_static and /tf."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from kd3d_core.errors import CalibrationError, listed
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.messages.decode import transforms
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_core.messages.types import Transforms
from kd3d_ros.diagnostics import Complaints
from kd3d_ros.inputs import Input, parsed
from kd3d_ros.qos import QosOverrides

_HISTORY_NS = 10 * 10**9  # as tf2 keeps it
_DEPTH = 100


class FrameListener:
    """Learns transforms where frames are named that others publish, as a LiDAR's.

    Of a frame that the node makes up, it hears whether others publish it too.

    Attributes:
        transforms: what has been learnt.
    """

    def __init__(self, complaints: Complaints, on_change: Callable[[], object]) -> None:
        """
        Args:
            complaints: told of messages and transforms that are none.
            on_change: called when there are new transforms.
        """
        self.transforms = TransformBuffer(_HISTORY_NS)
        self._complaints = complaints
        self._on_change = on_change
        self._parents: set[str] = set()

    def listen(
        self, node: Node, overrides: QosOverrides, *, own_frame: str, learns: bool
    ) -> dict[str, Input]:
        """Subscribe.

        Args:
            node: that listens.
            overrides: of the QoS.
            own_frame: that the node itself publishes; empty if there is none.
            learns: whether transforms are looked up at all.
        """
        self._parents = set()
        static = replace(LATCHED, depth=_DEPTH)
        topics = {"/tf_static": (True, static)}
        if learns:
            topics["/tf"] = (False, QosProfile(depth=_DEPTH))
        kind = Transforms.ros_type

        def on_message(is_fixed: bool, message: TFMessage) -> None:
            if own_frame:
                self._note_parents(own_frame, message)
            if learns:
                self._learn(is_fixed, message)

        return {
            topic: Input(
                node,
                overrides,
                kind,
                topic,
                parsed(kind, partial(on_message, is_fixed), self._complaints),
                qos,
                is_fixed=True,
            )
            for topic, (is_fixed, qos) in topics.items()
        }

    def conflict(self, frame: str, own: set[str]) -> str:
        """Who else publishes `frame`; empty if nobody does.

        Args:
            own: frames of which this node has published it as a child.
        """
        others = self._parents - own
        if not own or not others:
            return ""
        text = (
            f"{frame!r} is a child of {listed(sorted(own))} and, by another node, of "
            f"{listed(sorted(others))}, and TF keeps one of them: set virtual_frame"
        )
        self._complaints.notice("other_parent", text)
        return text

    def _learn(self, is_fixed: bool, message: TFMessage) -> None:
        for found in transforms(message, self._on_bad):
            stamp = None if is_fixed else found.stamp_ns
            try:
                self.transforms.add(found.parent, found.child, found.parent_from_child, stamp)
            except CalibrationError as error:
                self._on_bad(str(error))
        self._on_change()

    def _note_parents(self, frame: str, message: TFMessage) -> None:
        self._parents |= {
            stamped.header.frame_id
            for stamped in message.transforms
            if stamped.child_frame_id.lstrip("/") == frame
        }

    def _on_bad(self, reason: str) -> None:
        self._complaints.notice("bad_transform", f"TF: {reason}")
