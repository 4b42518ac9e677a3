"""Types by name, QoS profiles, and a bare node for playing and recording."""

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from kd3d_core.data.bag import definition_file
from kd3d_core.errors import Kd3dError, shown
from kd3d_core.messages.qos import QosProfile
from kd3d_ros.profile import use_profile


class MessageTypeError(Kd3dError):
    """A message type's Python package is not installed, or not usable."""


@contextmanager
def bare_node(name: str) -> Iterator[Node]:
    """A node without parameters and logging topics, in a context of its own.

    Its context installs no signal handlers: whoever calls decides how the work ends.
    """
    use_profile()
    context = Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node(
            name, context=context, enable_rosout=False, start_parameter_services=False
        )
        try:
            yield node
        finally:
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


@cache
def message_class(type_name: str) -> Any:
    """Python class of a type such as `sensor_msgs/msg/Image`.

    Raises:
        MessageTypeError: it isn't installed on this machine.
    """
    package, _, message = type_name.replace("/msg/", "/").partition("/")
    try:
        if definition_file(type_name) is None:  # a bag may not have any module imported
            raise ImportError(package)
        return getattr(importlib.import_module(f"{package}.msg"), message)
    except (ImportError, AttributeError):
        raise MessageTypeError(
            f"{shown(type_name)} is not installed here: install the ROS package {shown(package)}"
        ) from None


def ros_qos(qos: QosProfile) -> QoSProfile:
    """rclpy's profile for a recorded one."""
    return QoSProfile(
        reliability=(
            ReliabilityPolicy.BEST_EFFORT
            if qos.reliability == "best_effort"
            else ReliabilityPolicy.RELIABLE
        ),
        durability=(
            DurabilityPolicy.TRANSIENT_LOCAL if qos.is_latched else DurabilityPolicy.VOLATILE
        ),
        history=HistoryPolicy.KEEP_ALL if qos.history == "keep_all" else HistoryPolicy.KEEP_LAST,
        depth=max(qos.depth, 1),
    )


def offered_qos(publishers: Iterable[TopicEndpointInfo], depth: int = 10) -> QosProfile:
    """The strictest QoS that all these publishers of a topic offer.

    Args:
        publishers: as `Node.get_publishers_info_by_topic` gives them, at least one.
        depth: of the profile, because discovery doesn't tell any.
    """
    profiles = [publisher.qos_profile for publisher in publishers]
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
    return QosProfile(
        "reliable" if reliable else "best_effort",
        "transient_local" if latched else "volatile",
        depth=depth,
    )
