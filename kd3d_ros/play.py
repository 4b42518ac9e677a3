"""Plays a bag: its messages as they were recorded, byte for byte, at the bag's own pace."""

import logging
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rclpy.duration import Duration
from rclpy.exceptions import InvalidTopicNameException
from rclpy.node import Node
from rclpy.publisher import Publisher

from kd3d_core.data.bag import BagReader, RawMessage, Topic
from kd3d_core.errors import DataError, Kd3dError, first_line, listed, shown
from kd3d_core.messages.qos import QosProfile
from kd3d_ros.raw import MessageTypeError, bare_node, message_class, ros_qos

# Two endpoints discover each other one after the other; the publisher counts a subscriber that
# may not know it yet, and drops best-effort messages until then. ROS doesn't tell when it does.
_SETTLE_S = 0.5
# Best-effort messages are not acknowledged: what was sent last needs time to be taken.
_LINGER_S = 0.3
# A bag of one message would otherwise be sent again without a pause.
_LOOP_AT_LEAST_S = 0.1
_CLOCK_PERIOD_S = 1 / 40  # as `ros2 bag play --clock`
# Nobody waits for longer: such a pause is left out, because a stamp must be wrong.
_LONGEST_PAUSE_S = 24 * 3600.0
_NAMELESS = "(no name)"

_log = logging.getLogger(__name__)


@dataclass
class PlaySummary:
    """What was played.

    Attributes:
        sent: messages, by topic.
        late_ms: 95th percentile of how late they were sent, milliseconds, by topic.
        skipped: reason and number of messages, for topics that could not be published.
        seconds: how long it took.
        interrupted: whether it ended before the bag did.
    """

    sent: dict[str, int] = field(default_factory=dict)
    late_ms: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, tuple[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def __str__(self) -> str:
        end = "interrupted" if self.interrupted else "played"
        lines = [f"{end} after {self.seconds:.1f} s: {sum(self.sent.values())} messages"]
        lines += [
            f"  {shown(topic) or _NAMELESS}: {count} sent, p95 {self.late_ms[topic]:.1f} ms late"
            for topic, count in self.sent.items()
        ]
        lines += [
            f"  {shown(topic) or _NAMELESS}: {count} skipped, {reason}"
            for topic, (reason, count) in self.skipped.items()
        ]
        return "\n".join(lines)


def play_bag(
    path: Path | str,
    *,
    rate: float = 1.0,
    loop: bool = False,
    start_offset_s: float = 0.0,
    clock: bool = False,
    topics: Collection[str] | None = None,
    wait_for: Mapping[str, int] | None = None,
    wait_timeout_s: float = 30.0,
    stop: threading.Event | None = None,
    on_sent: Callable[[RawMessage], None] | None = None,
) -> PlaySummary:
    """Publish a bag's messages with the QoS and at the intervals they were recorded with.

    Messages of a latched topic from before the offset are sent first. Topics without ROS 2
    messages, whose message type isn't installed or whose name ROS refuses are skipped and counted,
    and so are damaged messages. Pauses of more than a day are left out.

    Args:
        path: the bag.
        rate: speed; 1 is the bag's own.
        loop: start again at the end until `stop`.
        start_offset_s: seconds of the bag to leave out.
        clock: publish the bag's time on `/clock`, 40 times a second and with each message.
        topics: names; default: all.
        wait_for: topics and how many subscribers each must have before the first message.
        wait_timeout_s: seconds to wait for those.
        stop: ends playing when set.
        on_sent: called with each message just after it was sent.

    Raises:
        DataError: the bag is damaged or lacks a topic; nothing to play.
        Kd3dError: the subscribers did not come in time.
    """
    if not 1e-3 <= rate <= 1e6:
        raise Kd3dError(f"rate {rate:g}: give a speed from 0.001 to 1000000; 1 is the bag's own")
    if not start_offset_s >= 0:
        raise Kd3dError(f"start offset {start_offset_s:g} s: give 0 or more")
    stop = stop or threading.Event()
    with BagReader(path) as bag, bare_node("kd3d_bag_player") as node:
        if start_offset_s * 1e9 > bag.end_ns - bag.start_ns:
            raise DataError(
                f"{path}: the bag lasts {bag.duration_s:.1f} s: "
                f"nothing is left after {start_offset_s:g} s"
            )
        start_ns = bag.start_ns + round(start_offset_s * 1e9)
        player = _Player(node, bag, rate, topics, clock, stop, on_sent)
        player.wait_for(wait_for or {}, wait_timeout_s)
        began = time.monotonic()
        player.send_latched(start_ns)
        lasts_s = max((bag.end_ns - start_ns) / 1e9 / rate, _LOOP_AT_LEAST_S)
        while not stop.is_set():
            ends = time.monotonic() + lasts_s
            left_out_s = player.play_once(start_ns)
            if not loop:
                break
            player.rest_until(ends - left_out_s, start_ns)
        player.flush()
        return player.summary(time.monotonic() - began, interrupted=stop.is_set())


class _Player:
    """Publishers for a bag's topics, and when each message was due and sent."""

    def __init__(
        self,
        node: Node,
        bag: BagReader,
        rate: float,
        topics: Collection[str] | None,
        clock: bool,
        stop: threading.Event,
        on_sent: Callable[[RawMessage], None] | None,
    ) -> None:
        self._bag, self._rate, self._stop = bag, rate, stop
        self._on_sent = on_sent
        self._skipped = {} if topics else dict(bag.foreign)
        self._damaged: dict[str, tuple[str, int]] = {}
        self._publishers: dict[str, Publisher] = {}
        for name in topics or bag.topics:
            if name not in bag.topics:
                raise DataError(f"{bag.path}: no topic {shown(name)}; it has {listed(bag.topics)}")
            if not (clock and name == "/clock"):
                self._add_publisher(node, bag.topics[name])
        if not self._publishers:
            reasons = listed(reason for reason, _ in self._skipped.values())
            why = reasons if self._skipped else "the bag is empty"
            raise DataError(f"{bag.path}: no topic can be played: {why}")
        self._late = {name: array("d") for name in self._publishers}
        self._clock = _Clock(node) if clock else None

    def _add_publisher(self, node: Node, topic: Topic) -> None:
        try:
            kind = message_class(topic.type)
            self._publishers[topic.name] = node.create_publisher(
                kind, topic.name, ros_qos(_lasting(topic))
            )
        except (MessageTypeError, InvalidTopicNameException) as error:
            reason = first_line(error).rstrip(":")
            _log.warning("%s is skipped: %s", shown(topic.name) or _NAMELESS, reason)
            self._skipped[topic.name] = (reason, topic.count)

    def wait_for(self, wanted: Mapping[str, int], timeout_s: float) -> None:
        """Wait until each topic has as many subscribers as it needs."""
        for topic in wanted:
            if topic not in self._publishers:
                raise DataError(
                    f"{self._bag.path}: {shown(topic)} is not played, so it cannot be waited for"
                )
        deadline = time.monotonic() + timeout_s
        while not self._stop.is_set():
            lacking = {
                topic: number
                for topic, number in wanted.items()
                if self._publishers[topic].get_subscription_count() < number
            }
            if not lacking:
                break
            if time.monotonic() > deadline:
                topic, number = next(iter(lacking.items()))
                raise Kd3dError(
                    f"{topic} has {self._publishers[topic].get_subscription_count()} of {number} "
                    f"subscribers after {timeout_s:g} s: start what should listen, with the same "
                    "ROS_DOMAIN_ID"
                )
            self._stop.wait(0.02)
        if wanted:
            self._stop.wait(_SETTLE_S)

    def send_latched(self, before_ns: int) -> None:
        """Send what latched topics said before the part of the bag that is played."""
        latched = [name for name in self._publishers if self._bag.topics[name].qos.is_latched]
        if latched and before_ns > self._bag.start_ns:
            for message in self._bag.messages(latched, stop_ns=before_ns):
                self._send(message, time.monotonic())

    def play_once(self, start_ns: int) -> float:
        """Play the bag from a stamp to its end; the seconds of pauses that were left out."""
        origin: float | None = None
        due_before = left_out_s = 0.0
        for message in self._bag.messages(list(self._publishers), start_ns=start_ns):
            if origin is None:
                origin = due_before = time.monotonic()
            due = origin + (message.stamp_ns - start_ns) / 1e9 / self._rate
            pause_s = due - due_before
            if pause_s > _LONGEST_PAUSE_S:
                self._say_pause(message, pause_s * self._rate)
                origin, due, left_out_s = origin - pause_s, due_before, left_out_s + pause_s
            due_before = due
            for moment in self._moments_until(due):
                if self._clock and origin is not None:
                    self._clock.tick(start_ns + round((moment - origin) * self._rate * 1e9))
            if self._stop.is_set():
                break
            if self._clock:
                self._clock.tick(message.stamp_ns)
            self._send(message, due)
        return left_out_s

    def _say_pause(self, message: RawMessage, pause_s: float) -> None:
        _log.warning(
            "%s: the stamp of a message on %s is %.1f days after the one before and must be wrong: "
            "it isn't waited for",
            *(self._bag.path, shown(message.topic), pause_s / 86400),
        )

    def rest_until(self, end: float, start_ns: int) -> None:
        """Wait for the bag's end: topics that aren't played may last longer than those that are."""
        for moment in self._moments_until(end):
            if self._clock:
                left_ns = round((end - moment) * self._rate * 1e9)
                self._clock.tick(max(self._bag.end_ns - left_ns, start_ns))

    def _moments_until(self, due: float) -> Iterator[float]:
        """Sleep until `due`, or `stop`; wakes in between for the clock."""
        while not self._stop.is_set():
            now = time.monotonic()
            if now >= due:
                return
            self._stop.wait(min(due - now, _CLOCK_PERIOD_S) if self._clock else due - now)
            now = time.monotonic()
            if now < due:
                yield now

    def _send(self, message: RawMessage, due: float) -> None:
        if message.damage:
            if message.topic not in self._damaged:
                what = shown(message.topic), message.damage
                _log.warning("%s: a message on %s is skipped: %s", self._bag.path, *what)
            _, before = self._damaged.get(message.topic, ("", 0))
            self._damaged[message.topic] = message.damage, before + 1
            return
        now = time.monotonic()
        self._publishers[message.topic].publish(message.data)
        self._late[message.topic].append((now - due) * 1e3)
        if self._on_sent is not None:
            self._on_sent(message)

    def flush(self) -> None:
        """Give reliable subscribers time to acknowledge, and others to take the last message."""
        if self._stop.is_set():
            return
        deadline = time.monotonic() + 2.0
        for publisher in self._publishers.values():
            left = max(deadline - time.monotonic(), 0.0)
            publisher.wait_for_all_acked(Duration(seconds=left))
        self._stop.wait(_LINGER_S)

    def summary(self, seconds: float, interrupted: bool) -> PlaySummary:
        """What was played so far."""
        return PlaySummary(
            {name: len(late) for name, late in self._late.items()},
            {
                name: float(np.percentile(late, 95)) if late else 0.0
                for name, late in self._late.items()
            },
            self._skipped | self._damaged,
            seconds,
            interrupted,
        )


class _Clock:
    """Publishes `/clock`."""

    def __init__(self, node: Node) -> None:
        from rosgraph_msgs.msg import Clock

        self._message = Clock()
        self._publisher = node.create_publisher(Clock, "/clock", ros_qos(QosProfile(depth=1)))

    def tick(self, stamp_ns: int) -> None:
        second, nanosecond = divmod(stamp_ns, 10**9)
        if second < 2**31:  # what a message of ROS can hold
            self._message.clock.sec, self._message.clock.nanosec = second, nanosecond
            self._publisher.publish(self._message)


def _lasting(topic: Topic) -> QosProfile:
    """QoS that keeps all of a latched topic: its messages may come from several broadcasters."""
    if not topic.qos.is_latched:
        return topic.qos
    return replace(topic.qos, depth=max(topic.qos.depth, min(topic.count, 100)))
