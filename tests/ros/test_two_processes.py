"""The node in a process of its own, with images that come over DDS.

Tests in one process never see the loss of large messages that these look for.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from threading import Timer
from typing import Any

import numpy as np
import pytest
from node_helpers import (
    Camera,
    Spinner,
    camera_info,
    image_message,
    stamp_of,
    start_fake_node,
)
from visualization_msgs.msg import Marker

from kd3d_core.data.kitti import KittiDataset

pytestmark = pytest.mark.usefixtures("ros")

IMAGES = 31


@pytest.fixture(scope="module")
def kitti_images(tracking: KittiDataset) -> list[np.ndarray]:
    return [tracking[i].image() for i in range(IMAGES)]


@pytest.fixture
def camera() -> Iterator[Camera]:
    node = Camera()
    yield node
    node.destroy_node()


def read_until(text: str, node: "subprocess.Popen[str]", limit_s: float = 10.0) -> str:
    """Output of `node` up to a line with `text`."""
    assert node.stdout is not None
    watchdog = Timer(limit_s, node.kill)
    watchdog.start()
    output = ""
    for line in node.stdout:
        output += line
        if text in line:
            watchdog.cancel()
            return output
    pytest.fail(f"not within {limit_s} s: {text!r} in the output:\n{output}")


def end_of(node: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status, and the output not yet read, of a node that has been signalled."""
    try:
        output, _ = node.communicate(timeout=60)
    finally:
        node.kill()
    return node.returncode, output


@pytest.mark.parametrize(
    ("delay_s", "all_processed"), [(0.0, True), (0.15, False)], ids=["fast", "slow"]
)
def test_no_image_is_lost(
    kitti_images: list[np.ndarray], camera: Camera, delay_s: float, all_processed: bool
) -> None:
    messages = [image_message(image, stamp=100 + 0.1 * i) for i, image in enumerate(kitti_images)]
    height, width = kitti_images[0].shape[:2]
    info = camera_info(width, height, focal=720.0)
    results = (camera.points, camera.detections, camera.markers)

    def is_answered(message: Any) -> bool:
        return all(result and last_stamp(result[-1]) == stamp_of(message) for result in results)

    node = start_fake_node("--delay", str(delay_s))
    with Spinner(camera) as spinner:
        try:
            spinner.until("the node subscribes", camera.is_connected, 30)
            start = time.monotonic()
            for i, message in enumerate(messages):
                spinner.during(start + 0.1 * i - time.monotonic())
                info.header.stamp = message.header.stamp
                camera.infos.publish(info)
                camera.images.publish(message)
                if all_processed or message is messages[-1]:
                    spinner.until("the answer", partial(is_answered, message))
            node.send_signal(signal.SIGINT)
            spinner.until("the last diagnostics", lambda: camera.value("state") == "shuttingdown")
        finally:
            status, output = end_of(node)
    assert status == 0, output
    processed, dropped = int(camera.value("processed")), int(camera.value("dropped"))
    assert int(camera.value("received")) == IMAGES, output
    assert processed + dropped == IMAGES, output
    assert processed > 10, output
    assert (dropped == 0) == all_processed, output

    sent = {stamp_of(message) for message in messages}
    assert len(camera.points) == processed
    for points, detections, markers in zip(*results, strict=True):
        headers = [
            points.header,
            detections.header,
            *(d.header for d in detections.detections),
            *(m.header for m in markers.markers),
        ]
        assert all(header == points.header for header in headers)
        assert stamp_of(points) in sent
        assert points.header.frame_id == "kd3d_lidar"
        assert points.width == 40_000
        assert len(detections.detections) == 20
        assert markers.markers[0].action == Marker.DELETEALL


def last_stamp(result: Any) -> tuple[int, int]:
    return stamp_of(result.markers[-1] if hasattr(result, "markers") else result)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_lets_the_frame_in_the_model_finish(camera: Camera, number: int) -> None:
    node = start_fake_node("--delay", "1.0")
    with Spinner(camera) as spinner:
        try:
            spinner.until("the node subscribes", camera.is_connected, 30)
            camera.infos.publish(camera_info())
            camera.images.publish(image_message(stamp=7.0))
            output = read_until("in the model", node)
            signalled = time.monotonic()
            node.send_signal(number)
            spinner.until("the frame's boxes", lambda: camera.detections, 5)
            status, rest = end_of(node)
        finally:
            node.kill()
    output += rest
    assert status == 0, output
    assert time.monotonic() - signalled < 1.0 + 10.0
    assert "Traceback" not in output
    assert "received 1 = processed 1 + dropped 0" in output
    assert stamp_of(camera.detections[0]) == (7, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_the_model_loads_keeps_the_node_from_activating(number: int) -> None:
    node = start_fake_node("--load", "1.0")
    try:
        read_until("loading", node, 30)
        node.send_signal(number)
        status, output = end_of(node)
    finally:
        node.kill()
    assert status == 0, output
    assert "loaded a fake detector" in output
    assert "active:" not in output
    assert "Traceback" not in output


def test_a_signal_that_comes_twice_is_one(camera: Camera) -> None:
    """`ros2 launch` sends SIGINT to a process that has got the terminal's already."""
    node = start_fake_node("--delay", "0.5")
    with Spinner(camera) as spinner:
        try:
            spinner.until("the node subscribes", camera.is_connected, 30)
            camera.infos.publish(camera_info())
            camera.images.publish(image_message(stamp=7.0))
            read_until("in the model", node)
            node.send_signal(signal.SIGINT)
            read_until("stopping", node)
            node.send_signal(signal.SIGINT)
            node.send_signal(signal.SIGTERM)
            spinner.until("the frame's boxes", lambda: camera.detections, 5)
            status, output = end_of(node)
        finally:
            node.kill()
    assert status == 0, output
    assert "Traceback" not in output


def test_a_later_signal_ends_the_node_at_once() -> None:
    node = start_fake_node("--hold", "--one-signal", "0")
    try:
        read_until("loading", node, 30)
        node.send_signal(signal.SIGINT)
        read_until("stopping", node)
        node.send_signal(signal.SIGTERM)
        status, output = end_of(node)
    finally:
        node.kill()
    assert status == -signal.SIGTERM
    assert "Traceback" not in output


def test_refused_parameter_ends_the_node_with_one_line() -> None:
    node = start_fake_node(parameters=["score_threshold:=3.0"])
    output, _ = node.communicate(timeout=30)
    assert node.returncode == 1
    assert len(output.strip().splitlines()) == 1
    assert "score_threshold" in output
    assert "3.0" in output
