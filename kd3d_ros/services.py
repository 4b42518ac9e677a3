"""The node's own services."""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node

try:
    from std_srvs.srv import SetBool
except ImportError:  # an environment that was made before the service was
    SetBool = None

from kd3d_ros.intake import Gate


def offer_enable(node: Node, gate: Gate, on_change: Callable[[], object]) -> None:
    """Offer `~/enable` (std_srvs/SetBool), which opens and closes the gate."""

    def on_request(request: Any, response: Any) -> Any:
        gate.is_enabled = request.data
        response.success = True
        response.message = "enabled" if request.data else "disabled: no images are received"
        node.get_logger().info(response.message)
        on_change()
        return response

    if SetBool is not None:
        node.create_service(SetBool, "~/enable", on_request)
