"""What a bag says about its topics, above all how they were offered."""

import re
from dataclasses import dataclass
from functools import lru_cache

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2.metadata import parse_qos

from kd3d_core.errors import shown
from kd3d_core.messages.qos import LATCHED, QosProfile

_ROS2_TYPE = re.compile(r"[A-Za-z]\w*/(msg|srv|action)/\w+", re.ASCII)
_DEEPEST = 10_000
_QOS_BYTES = 2**16


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name, ROS 2 type (`pkg/msg/Name`), number of messages and QoS."""

    name: str
    type: str
    count: int
    qos: QosProfile


def ros2_type(name: str) -> str:
    """`pkg/msg/Name` also where a bag says `pkg/Name`, as ROS 1 and some tools do."""
    package, separator, message = name.partition("/")
    return f"{package}/msg/{message}" if separator and "/" not in message else name


def foreign_reason(connection: Connection) -> str:
    """Why the messages of a connection are none of ROS; empty if they are."""
    if isinstance(connection.ext, ConnectionExtRosbag2):
        encoding = connection.ext.serialization_format
        if encoding != "cdr":
            return f"it is encoded as {shown(encoding)!r}, not in ROS 2's CDR"
    if not _ROS2_TYPE.fullmatch(ros2_type(connection.msgtype)):
        return f"its type {shown(connection.msgtype)!r} is none of ROS 2"
    return ""


def recorded_qos(connection: Connection) -> QosProfile:
    """How the topic of a connection was offered."""
    if isinstance(connection.ext, ConnectionExtRosbag1):
        return LATCHED if connection.ext.latching else QosProfile()
    if not connection.ext.offered_qos_profiles:
        return LATCHED if connection.topic.endswith("/tf_static") else QosProfile()
    offered = connection.ext.offered_qos_profiles
    # Of several publishers, the one that suits every subscriber.
    reliable = all(qos.reliability != QosReliability.BEST_EFFORT for qos in offered)
    latched = all(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in offered)
    keep_all = any(qos.history == QosHistory.KEEP_ALL for qos in offered)
    return QosProfile(
        "reliable" if reliable else "best_effort",
        "transient_local" if latched else "volatile",
        "keep_all" if keep_all else "keep_last",
        min(max(qos.depth for qos in offered), _DEEPEST) or 10,
    )


def parsed_qos(text: str) -> list[Qos]:
    """QoS profiles; none where they can't be understood, which costs no message."""
    return list(_profiles(text)) if len(text) <= _QOS_BYTES else []


@lru_cache(maxsize=256)
def _profiles(text: str) -> tuple[Qos, ...]:
    """Kept, as most topics of a bag have the same, and a bag may be opened several times."""
    try:
        profiles = parse_qos(text)
    except Exception:
        return ()
    return tuple(profile for profile in profiles if isinstance(profile.depth, int))


def rosbags_qos(qos: QosProfile) -> Qos:
    """The same profile as rosbags writes it."""
    forever = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE
    return Qos(
        QosHistory[qos.history.upper()],
        qos.depth,
        QosReliability[qos.reliability.upper()],
        QosDurability[qos.durability.upper()],
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
