"""What the node listens to: each topic as its publishers offer it, each message as bytes.

As bytes, because rclpy drops a message that it can't read without a word.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeVar

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

from kd3d_core.errors import first_line
from kd3d_core.messages.decode import decode, image_in_cdr
from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import CompressedImage, Image, Message
from kd3d_core.runtime.rejection import RejectedError
from kd3d_ros.diagnostics import Complaints
from kd3d_ros.qos import QosOverrides
from kd3d_ros.raw import message_class, offered_qos, ros_qos


@dataclass(frozen=True)
class ReceivedImage:
    """An image message in CDR, and `time.perf_counter()` when it arrived.

    `kind` is `Image` or `CompressedImage`.
    """

    data: bytes
    arrived: float
    kind: type[Image] | type[CompressedImage] = Image


OurMessage = TypeVar("OurMessage", bound=Message)


def parse(data: bytes, ros_type: str) -> Any:
    """The message of rclpy that `data` is in CDR.

    Raises:
        RejectedError: kind `malformed_message`.
    """
    kind = message_class(ros_type)
    try:
        return deserialize_message(data, kind)
    except Exception as error:  # of a kind that differs between releases of rclpy
        raise RejectedError(
            "malformed_message",
            f"{len(data)} bytes are no {kind.__name__} ({first_line(error)}): was the sender built "
            "with other message definitions?",
        ) from None


def read(data: bytes, kind: type[OurMessage]) -> OurMessage:
    """The message of kd3d's that `data` is in CDR; raises as `parse` does."""
    if kind is Image:
        with suppress(ValueError):  # what is wrong with it, if anything, rclpy says
            return image_in_cdr(data)  # type: ignore[return-value]
    message = decode(parse(data, kind.ros_type), kind.ros_type)
    assert isinstance(message, kind)
    return message


def parsed(
    ros_type: str, callback: Callable[[Any], object], complaints: Complaints
) -> Callable[[bytes], None]:
    """`callback` for messages in CDR; those that can't be read are complained about."""

    def on_bytes(data: bytes) -> None:
        try:
            message = parse(data, ros_type)
        except RejectedError as error:
            complaints.notice(error.kind, str(error))
        else:
            callback(message)

    return on_bytes


class Input:
    """A subscription with the QoS that the publishers of its topic offer.

    Best effort hears every publisher, but under Fast DDS large images get lost; reliable hears
    only reliable ones; transient local gets what was published before, from those that keep it.
    `follow` therefore subscribes again when the publishers offer something else than before.
    """

    def __init__(
        self,
        node: Node,
        overrides: QosOverrides,
        ros_type: str,
        topic: str,
        callback: Callable[[bytes], None],
        qos: QosProfile,
        *,
        is_fixed: bool = False,
        on_lost: Callable[[int], object] = lambda count: None,
    ) -> None:
        """
        Args:
            node: that listens.
            overrides: policies that the user has set.
            ros_type: of the messages.
            topic: before remapping.
            callback: gets each message in CDR.
            qos: to ask for as long as there is no publisher.
            is_fixed: whether to ask for `qos` whatever is offered, but for the overrides.
            on_lost: told how many messages DDS has lost, where it counts them.
        """
        self._node, self._ros_type, self._topic = node, ros_type, topic
        self._callback, self._on_lost = callback, on_lost
        self._overrides = overrides
        self._qos = self._wanted = qos
        self._is_fixed = is_fixed
        self._subscription: Subscription | None = None
        self.follow()

    def follow(self) -> None:
        """Subscribe, and again if the publishers offer another QoS than before."""
        topic = self._node.resolve_topic_name(self._topic)
        qos = self._overrides.of(topic, "subscription", self._offered())
        if self._subscription is not None and qos == self._qos:
            return
        self.close()
        self._qos = qos
        try:
            self._subscription = self._subscribe(_events(self._on_lost, self.follow))
        except UnsupportedEventTypeError:
            self._subscription = self._subscribe(None)

    def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    @property
    def reliability(self) -> str:
        """What is asked for: `reliable` or `best_effort`."""
        return self._qos.reliability

    @property
    def publishers(self) -> int:
        """How many publish the topic."""
        return self._node.count_publishers(self._topic)

    @property
    def connected(self) -> int:
        """How many of them this node is connected to."""
        # Jazzy and later know it; the graph may be ahead of that.
        count = getattr(self._subscription, "get_publisher_count", None)
        return int(count()) if count is not None else self.publishers

    def _offered(self) -> QosProfile:
        if self._is_fixed:
            return self._wanted
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        return offered_qos(publishers, self._wanted.depth) if publishers else self._qos

    def _subscribe(self, events: Any) -> Subscription:
        return self._node.create_subscription(
            message_class(self._ros_type),
            self._topic,
            self._callback,
            ros_qos(self._qos),
            # A group of its own each time: on Humble, destroying a subscription whose message is
            # about to be taken leaves its group locked for ever.
            callback_group=MutuallyExclusiveCallbackGroup(),
            event_callbacks=events,
            raw=True,
        )


def _events(on_lost: Callable[[int], object], on_matched: Callable[[], object]) -> Any:
    """Callbacks for those events that this release of rclpy knows."""
    callbacks: dict[str, Any] = {
        "message_lost": lambda event: on_lost(event.total_count_change),
        "matched": lambda event: on_matched(),
    }
    known = signature(SubscriptionEventCallbacks).parameters
    return SubscriptionEventCallbacks(**{k: v for k, v in callbacks.items() if k in known})
