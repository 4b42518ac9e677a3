"""QoS as users override it: `qos_overrides./TOPIC.subscription.POLICY`, as ROS names it.

rclpy's own overriding keeps the first QoS of a topic for good; here inputs follow what their
publishers offer, and an override changes only the policy that it names.
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Literal

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from kd3d_core.errors import ConfigError, shown
from kd3d_core.messages.qos import QosProfile

Entity = Literal["subscription", "publisher"]

_NAME = re.compile(r"qos_overrides\.(/.+)\.(subscription|publisher)\.(\w+)")
_VALUES: dict[str, tuple[str, ...]] = {
    "reliability": ("reliable", "best_effort"),
    "durability": ("volatile", "transient_local"),
    "history": ("keep_last", "keep_all"),
    "depth": (),  # a number
}
_DEEPEST = 10_000


class QosOverrides:
    """The overrides that a node was started with.

    Each is a read-only parameter of the node.
    """

    def __init__(self, node: Node) -> None:
        """
        Raises:
            ConfigError: a policy is unknown, or its value can't be.
        """
        self._policies: dict[tuple[str, str], dict[str, Any]] = {}
        given = getattr(node, "_parameter_overrides", {})  # rclpy has no other way to see all
        for name, parameter in given.items():
            if not (match := _NAME.fullmatch(name)):
                continue
            topic, entity, policy = match.groups()
            _check(name, policy, parameter.value)
            self._policies.setdefault((topic, entity), {})[policy] = parameter.value
            node.declare_parameter(
                name,
                parameter.value,
                ParameterDescriptor(description="QoS of a topic, at start.", read_only=True),
            )

    def of(self, topic: str, entity: Entity, qos: QosProfile) -> QosProfile:
        """The QoS for a topic, by its name after remapping."""
        return replace(qos, **self._policies.get((topic, entity), {}))

    def unused(self, topics: Collection[tuple[str, Entity]]) -> list[str]:
        """One line for each override of a topic that the node doesn't have."""
        return [
            f"qos_overrides of {shown(topic)}, {entity}: this node has no such {entity}; it has "
            f"{', '.join(sorted(name for name, kind in topics if kind == entity))}"
            for topic, entity in self._policies
            if (topic, entity) not in topics
        ]


def _check(name: str, policy: str, value: Any) -> None:
    known = _VALUES.get(policy)
    if known is None:
        raise ConfigError(f"parameter {shown(name)}: give one of {', '.join(_VALUES)}")
    if not known and not (type(value) is int and 0 < value <= _DEEPEST):
        raise ConfigError(f"parameter {shown(name)} is {value!r:.40}: give 1 to {_DEEPEST}")
    if known and value not in known:
        raise ConfigError(f"parameter {shown(name)} is {value!r:.40}: give {' or '.join(known)}")
