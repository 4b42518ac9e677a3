"""Parameters of a running node: declared, changed while it runs, or refused with a reason."""

import difflib
from collections.abc import Callable
from dataclasses import fields, replace

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from kd3d_core.errors import ConfigError, shown
from kd3d_ros.parameters import DetectorParameters


class LiveParameters:
    """The parameters of a node as they are now.

    Attributes:
        values: replaced as a whole when one is changed.
    """

    def __init__(
        self, node: Node, state: Callable[[], str], on_change: Callable[[], object]
    ) -> None:
        """Declare them all.

        Args:
            node: whose parameters they are.
            state: its lifecycle state, on which it depends what may be changed.
            on_change: called after one has been changed.

        Raises:
            ConfigError: when a value given at start (file or command line) is refused.
        """
        self.values = DetectorParameters()
        self._state, self._on_change = state, on_change
        node.add_on_set_parameters_callback(self._on_set)
        _declare(node)

    def _on_set(self, changed: list[Parameter]) -> SetParametersResult:
        values = {p.name: p.value for p in changed if hasattr(self.values, p.name)}
        if why := self.values.fixed_by(values, self._state()):
            return SetParametersResult(successful=False, reason=why)
        try:
            self.values = replace(self.values, **values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._on_change()
        return SetParametersResult(successful=True)


def _declare(node: Node) -> None:
    """Declare every parameter on `node`, with description, range and read-only flag.

    Raises:
        ConfigError: when a value given at start (file or command line) is refused.
    """
    for spec in fields(DetectorParameters):
        bounds = spec.metadata["bounds"]
        descriptor = ParameterDescriptor(
            name=spec.name,
            description=spec.metadata["description"],
            read_only=spec.metadata["changeable"] == "never",
            # A whole number is an integer to ROS, and refused for a static float.
            dynamic_typing=bounds is not None,
        )
        if bounds:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)
            ]
        try:
            node.declare_parameter(spec.name, spec.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(shown(f"parameter {spec.name}: {error}", 300)) from None


def unknown_overrides(node: Node) -> list[str]:
    """One line for each parameter given at start that the node doesn't have; rclpy says nothing.

    They are no error: a file for all nodes (`/**`) may hold the parameters of others.
    """
    names = [spec.name for spec in fields(DetectorParameters)]
    lines = []
    for given in getattr(node, "_parameter_overrides", {}):
        if node.has_parameter(given):
            continue
        near = difflib.get_close_matches(given[:80], names, 1)
        if given.startswith("qos_overrides."):
            hint = ": write qos_overrides./TOPIC.subscription.reliability, or .publisher."
        elif near:
            hint = f": did you mean {near[0]}?"
        else:
            hint = f"; it has {', '.join(names)}"
        lines.append(f"parameter {shown(repr(given))} is none of this node's{hint}")
    return lines
