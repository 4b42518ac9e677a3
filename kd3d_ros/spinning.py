"""A process that spins one node until a signal comes."""

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from kd3d_core.errors import ConfigError
from kd3d_ros.lifecycle import LoadingNode
from kd3d_ros.signals import stop_on_signals


def spin_until_signalled(args: Sequence[str] | None, make_node: Callable[[], LoadingNode]) -> int:
    """Run a node until SIGINT or SIGTERM, then let it finish.

    Args:
        args: command line, program first; the process's own if None.
        make_node: makes the node.

    Returns:
        Exit status: 0, or 1 if a parameter was refused.
    """
    # Not rclpy's own handlers: those invalidate the context at once, and what the frame in the
    # model results in could no longer be published.
    with stop_on_signals() as stop:
        rclpy.init(
            args=list(args) if args is not None else None,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        try:
            node = make_node()
        except ConfigError as error:
            print(f"kd3d detector: {error}", file=sys.stderr)
            rclpy.shutdown()
            return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            while not stop.is_set():
                _spin_once(executor)
        except ExternalShutdownException:
            pass
        finally:
            node.finish()
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()
    return 0


def _spin_once(executor: SingleThreadedExecutor) -> None:
    # With a limit, because Python's signal handlers run only between two waits.
    with suppress(InvalidHandle):  # Humble: a message came for a subscription just destroyed
        executor.spin_once(timeout_sec=0.1)
