"""Records topics into a bag: the bytes as they came, and the QoS they were offered with."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.subscription import Subscription

from kd3d_core.data.bag import BagWriter, typestore
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_ros.raw import MessageTypeError, bare_node, message_class, offered_qos, ros_qos

# Messages that may wait while the disk is busy, for each topic.
_QUEUE_DEPTH = 1000
_DISCOVERY_PERIOD_S = 0.1
# After a stop, what had arrived by then is still written; this long without a message ends that.
_DRAIN_S = 0.2

_log = logging.getLogger(__name__)


def record_bag(
    path: Path | str,
    topics: Sequence[str],
    *,
    max_s: float | None = None,
    idle_s: float | None = None,
    overwrite: bool = False,
    stop: threading.Event | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Record until `stop`, stamped with the time of reception.

    A topic is listened to as soon as a publisher shows its type and QoS; with its type given, at
    once, so that nothing of a publisher that comes later is missed. One whose type isn't installed
    is skipped with a warning.

    Args:
        path: folder of the bag.
        topics: names, or `name:pkg/msg/Type`.
        max_s: seconds after which to stop.
        idle_s: seconds without any message after which to stop, counted from the first one.
        overwrite: whether it may replace a bag.
        stop: ends the recording when set.
        on_ready: called once, when every topic has a publisher and is listened to.

    Returns:
        Messages recorded, by topic; 0 for topics that sent nothing.

    Raises:
        DataError: the bag cannot be written, or no message came at all. What was recorded before
            an error is kept, and the error says so.
        Kd3dError: no topic's message type is installed.
    """
    stop = stop or threading.Event()
    with (
        BagWriter(path, overwrite, keep_partial=True) as writer,
        bare_node("kd3d_bag_recorder") as node,
    ):
        recorder = _Recorder(node, writer, dict(_topic_and_type(word) for word in topics))
        executor = SingleThreadedExecutor(context=node.context)
        executor.add_node(node)
        try:
            began = looked = time.monotonic()
            recorder.update_subscriptions()
            ready = False
            while not stop.is_set():
                executor.spin_once(timeout_sec=_DISCOVERY_PERIOD_S)
                now = time.monotonic()
                if now - looked > _DISCOVERY_PERIOD_S:
                    looked = now
                    recorder.update_subscriptions()
                    if recorder.complete and not ready:
                        ready = True
                        _log.info("recording %s", ", ".join(recorder.topics))
                        on_ready()
                if max_s is not None and now - began > max_s:
                    break
                if idle_s is not None and recorder.newest and now - recorder.newest > idle_s:
                    break
            recorder.until_ns = time.time_ns()
            recorder.newest = time.monotonic()
            while time.monotonic() - recorder.newest < _DRAIN_S:
                executor.spin_once(timeout_sec=_DRAIN_S / 4)
        finally:
            executor.shutdown()
        return recorder.counts


class _Recorder:
    """Subscriptions that follow the graph, and the bag that they write to.

    Attributes:
        counts: messages recorded, by topic.
        newest: when the newest message came, monotonic seconds; 0 before the first.
        until_ns: messages that come later are left out, nanoseconds of the clock; None takes all.
        complete: whether every topic, but those skipped, has a publisher and is listened to.
    """

    def __init__(self, node: Node, writer: BagWriter, wanted: dict[str, str | None]) -> None:
        self._node, self._writer, self._wanted = node, writer, wanted
        self._subscriptions: dict[str, tuple[Subscription, QosProfile]] = {}
        self._skipped: set[str] = set()
        self.counts = dict.fromkeys(wanted, 0)
        self.newest = 0.0
        self.until_ns: int | None = None
        self.complete = False

    @property
    def topics(self) -> list[str]:
        """Those that are listened to."""
        return list(self._subscriptions)

    def update_subscriptions(self) -> None:
        """Subscribe to what has appeared, and again where a publisher offers less than asked.

        Raises:
            Kd3dError: no topic is left that can be recorded.
        """
        self.complete = True
        for topic, given_type in self._wanted.items():
            if topic in self._skipped:
                continue
            publishers = self._node.get_publishers_info_by_topic(topic)
            self.complete &= bool(publishers)
            type_name = given_type or (publishers[0].topic_type if publishers else None)
            if type_name is None:
                continue
            qos = _offered(topic, publishers)
            listening = self._subscriptions.get(topic)
            if listening is not None:
                subscription, asked = listening
                if not publishers or not _asks_too_much(asked, qos):
                    continue
                self._node.destroy_subscription(subscription)
            try:
                self._subscriptions[topic] = (self._subscribe(topic, type_name, qos), qos)
            except (MessageTypeError, DataError) as error:
                self._skipped.add(topic)
                if len(self._skipped) == len(self._wanted):
                    raise
                _log.warning("%s is skipped: %s", topic, error)

    def _subscribe(self, topic: str, type_name: str, qos: QosProfile) -> Subscription:
        def write(data: Any, info: Any) -> None:
            came_ns = info["received_timestamp"] or time.time_ns()
            if self.until_ns is not None and came_ns > self.until_ns:
                return
            if topic not in self._writer.counts:
                publishers = self._node.get_publishers_info_by_topic(topic)
                self._writer.add_topic(topic, type_name, _offered(topic, publishers))
            self._writer.write(topic, came_ns, bytes(data))
            self.counts[topic] += 1
            self.newest = time.monotonic()

        kind = message_class(type_name)
        typestore((type_name,))  # the bag needs its definition; better to miss it now
        profile = ros_qos(qos)
        profile.depth = _QUEUE_DEPTH
        return self._node.create_subscription(kind, topic, write, profile, raw=True)


def _offered(topic: str, publishers: Sequence[Any]) -> QosProfile:
    """The strictest QoS that all publishers of a topic offer, or will if there are none yet."""
    if not publishers:
        return LATCHED if topic.endswith("/tf_static") else QosProfile()
    return offered_qos(publishers)


def _asks_too_much(asked: QosProfile, offered: QosProfile) -> bool:
    return (asked.reliability == "reliable" and offered.reliability != "reliable") or (
        asked.is_latched and not offered.is_latched
    )


def _topic_and_type(word: str) -> tuple[str, str | None]:
    topic, _, type_name = word.partition(":")
    if not topic.startswith("/") or (type_name and len(type_name.split("/")) not in (2, 3)):
        raise Kd3dError(f"{word!r} is no topic: write /name, or /name:package/msg/Type")
    return topic, type_name or None
