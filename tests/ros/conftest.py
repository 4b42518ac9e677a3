"""Tests of the node talk real DDS, apart from whatever else runs on this machine."""

import gc
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kd3d_ros.profile import use_profile

# Before rclpy is imported anywhere. Domains above 101 may collide with ephemeral ports.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

_WITHOUT_ROS = {"test_bag_command.py", "test_demo_results.py", "test_mailbox.py"}
_MISSING = [
    name
    for name in ("rclpy", "vision_msgs", "tf2_msgs", "diagnostic_msgs", "visualization_msgs")
    if importlib.util.find_spec(name) is None
]
if not _MISSING:
    use_profile()


class _NeedsRos(pytest.Module):
    def collect(self):  # type: ignore[no-untyped-def]
        pytest.skip(
            f"no {', '.join(_MISSING)}: run `make env`, or source a ROS 2 installation",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> object:
    if _MISSING and module_path.name not in _WITHOUT_ROS:
        return _NeedsRos.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True)
def only_new_objects_are_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes look for garbage among what the test made.

    A node freezes what there is while it has a model, and no longer. What is frozen before each
    module of tests would be looked through again by each node, for more than a second.
    """
    if not _MISSING:
        from kd3d_ros import detector_node

        kept = SimpleNamespace(collect=gc.collect, freeze=lambda: None, unfreeze=lambda: None)
        monkeypatch.setattr(detector_node, "gc", kept)


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    """rclpy, initialised once.

    Without its handlers of signals: a test that sends one to its own process, and may come first,
    would end it for all that follow.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.try_shutdown()


@pytest.fixture
def start(ros: None) -> Iterator[Any]:
    """Starts nodes, as `node_setup.Start` says."""
    from node_setup import starter

    with starter() as make:
        yield make


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in 0.4 s, on a reliable and a best-effort topic, and two static transforms."""
    from bag_players import START, image, transform

    from kd3d_core.data.bag import BagWriter
    from kd3d_core.messages.qos import LATCHED, QosProfile

    path = tmp_path_factory.mktemp("bags") / "played"
    with BagWriter(path) as writer:
        writer.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", LATCHED)
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        writer.add_topic("/hasty", "sensor_msgs/msg/Image", QosProfile("best_effort"))
        for number in range(2):
            writer.write("/tf_static", START + number, transform(number))
        for index in range(40):
            writer.write("/image", START + index * 10**7, image(index))
            writer.write("/hasty", START + index * 10**7, image(index))
    return path
