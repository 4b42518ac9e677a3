"""The node in a process of its own: what answers while it loads, and what DDS loses."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_helpers import (
    ROOT,
    Camera,
    Spinner,
    camera_info,
    image_message,
    start_fake_node,
    start_program,
    start_python,
)
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo

from kd3d_ros import profile

pytestmark = pytest.mark.usefixtures("ros")

Call = Callable[..., Any]


@pytest.fixture
def camera() -> Iterator[Camera]:
    node = Camera()
    yield node
    node.destroy_node()


@contextmanager
def running(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        # Not killed at first: DDS believes in the services of a killed node for a while, and the
        # next test would call those.
        process.terminate()
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()


def go_on(process: "subprocess.Popen[str]") -> None:
    """Send the line that the program waits for."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def caller(camera: Camera, spinner: Spinner) -> Call:
    """Calls a service of the node, and waits for the answer.

    Asks again after some seconds: DDS loses the answer to a client that the node hasn't discovered
    within a tenth of a second, which happens where the machine is busy.
    """

    def call(kind: Any, name: str, request: Any) -> Any:
        client = camera.create_client(kind, f"/kd3d_detector/{name}")
        spinner.until(f"the service {name}", client.service_is_ready)
        answers = []

        def answered() -> bool:
            if time.monotonic() > began + 5 * len(answers):
                answers.append(client.call_async(request))
            return any(answer.done() for answer in answers)

        began = time.monotonic()
        spinner.until(f"an answer of {name}", answered)
        return next(answer.result() for answer in answers if answer.done())

    return call


def configure(call: Call) -> bool:
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    return bool(call(ChangeState, "change_state", request).success)


def test_services_and_diagnostics_answer_while_the_model_loads(camera: Camera) -> None:
    with running(start_fake_node("--hold")) as node, Spinner(camera) as spinner:
        call = caller(camera, spinner)
        loading = lambda: camera.value("state") == "configuring"  # noqa: E731
        spinner.until("diagnostics", loading)
        assert call(GetState, "get_state", GetState.Request()).current_state.label == "configuring"
        height = Parameter("camera_height", value=1.0).to_parameter_msg()
        lazy = Parameter("lazy", value=False).to_parameter_msg()
        request = SetParameters.Request(parameters=[height, lazy])
        refused, taken = call(SetParameters, "set_parameters", request).results
        assert "camera_height: read when the node is configured" in refused.reason
        assert taken.successful
        assert not configure(call)  # under way already
        camera.statuses.clear()
        spinner.until("more diagnostics", lambda: len(camera.statuses) >= 2 and loading())
        go_on(node)
        spinner.until("activation", lambda: camera.value("state") == "active")


def test_a_failed_load_is_a_failed_transition_with_the_reason(camera: Camera) -> None:
    node = start_fake_node("--fail", "no weights of x", parameters=["autostart:=false"])
    with running(node), Spinner(camera) as spinner:
        call = caller(camera, spinner)
        assert not configure(call)
        label = call(GetState, "get_state", GetState.Request()).current_state.label
        assert label == "unconfigured"
        reason = "unconfigured: no weights of x"
        spinner.until("the reason", lambda: reason in [it.message for it in camera.statuses])


def test_a_camera_info_that_was_latched_before_is_seen(camera: Camera) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    camera.destroy_publisher(camera.infos)
    camera.infos = camera.create_publisher(CameraInfo, "/camera_info", latched)
    camera.infos.publish(camera_info())
    with running(start_fake_node()), Spinner(camera) as spinner:
        spinner.until("the node subscribes", camera.is_connected)
        camera.images.publish(image_message())
        spinner.until("boxes", lambda: camera.detections)


@pytest.mark.slow
def test_a_killed_node_is_back_within_seconds(camera: Camera) -> None:
    """The demo model, killed in the middle of its work while camera and subscribers go on.

    What counts is the node's own work, as others may have the machine's time; `-s` shows both.
    """

    def publish() -> None:
        image = image_message(np.full((375, 1242, 3), 128, np.uint8))
        image.header.stamp = camera.get_clock().now().to_msg()
        camera.infos.publish(camera_info(1242, 375, focal=721.5))
        camera.images.publish(image)

    def work_and_be_killed() -> None:
        node = start_python("-m", "kd3d_ros.detector_node", "--ros-args", "-p", "model:=demo")
        try:
            began = time.monotonic()
            camera.points.clear()
            spinner.until("a result", lambda: camera.points, 60)
            spent_s = sum(map(int, Path(f"/proc/{node.pid}/stat").read_text().split()[13:15]))
            spent_s /= os.sysconf("SC_CLK_TCK")
            print(f"\n{time.monotonic() - began:.1f} s to a result, {spent_s:.1f} s of a core")
            assert spent_s < 10
        finally:
            node.kill()
            node.communicate()

    camera.create_timer(0.1, publish)
    with Spinner(camera) as spinner:
        work_and_be_killed()
        work_and_be_killed()


@contextmanager
def reliable_camera(reliability: str, subscribed: str) -> Iterator[tuple[Camera, Spinner]]:
    """A node, and a reliable camera that sends it thirty images of 0.9 MB; neither has a profile.

    Args:
        reliability: parameter of the node.
        subscribed: what it asks for in the end.
    """
    listener = Camera(listen=False)
    listener.destroy_publisher(listener.images)
    node = start_fake_node(
        parameters=[f"image_reliability:={reliability}", "lazy:=false"], profile=False
    )
    driver = start_program("camera_program.py", "reliable", "640", "480", "30", profile=False)
    with running(node), running(driver), Spinner(listener) as spinner:
        spinner.until("a connection", lambda: listener.value("image_publishers") == "1")
        spinner.until("its QoS", lambda: listener.value("image_reliability") == subscribed)
        go_on(driver)
        yield listener, spinner


def test_large_images_of_a_reliable_camera_all_arrive_without_a_profile() -> None:
    with reliable_camera("auto", "reliable") as (listener, spinner):
        spinner.until("all", lambda: listener.value("received") == "30")
        assert listener.value("lost") == "0"


def test_lost_images_are_counted_and_the_profile_is_named() -> None:
    with reliable_camera("best_effort", "best_effort") as (listener, spinner):

        def told() -> list[str]:
            return [one.message for one in listener.statuses if "lost by DDS" in one.message]

        spinner.until("the loss is told", told)
        assert "config/fastdds.xml" in told()[0]
        assert "--shm-size" in told()[0]
        assert 0 < int(listener.value("lost")) <= 30


def test_ports_stay_on_this_machine_where_discovery_does(
    camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    for variable in (profile.NEW, profile.OLD):
        monkeypatch.delenv(variable, raising=False)
    with running(start_fake_node()) as node, Spinner(camera) as spinner:
        spinner.until("the node subscribes", camera.is_connected)
        # Ports of DDS; those that sockets for sending get are above.
        listening = {address: port for address, port in udp_sockets(node.pid) if port < 32768}
        assert set(listening) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("rclpy", "given", "expected"),
    [
        ("9.1.2", {}, {profile.NEW: "own"}),
        ("9.1.2", {profile.NEW: "mine"}, {profile.NEW: "mine"}),
        ("9.1.2", {profile.OLD: "mine"}, {profile.OLD: "mine"}),
        ("7.1.6", {}, {profile.OLD: "own"}),
        ("7.1.6", {profile.NEW: "mine"}, {profile.NEW: "mine", profile.OLD: "mine"}),
        ("7.1.6", {profile.OLD: "mine"}, {profile.OLD: "mine"}),
    ],
)
def test_the_profile_is_named_as_fast_dds_reads_it(
    rclpy: str, given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "version", lambda _: rclpy)
    environment = {"ROS_LOCALHOST_ONLY": "1", **given}
    monkeypatch.setattr(os, "environ", environment)
    profile.use_profile()
    del environment["ROS_LOCALHOST_ONLY"]
    own = str(ROOT / "config" / "fastdds_local.xml")
    assert environment == {name: own if v == "own" else v for name, v in expected.items()}


def udp_sockets(pid: int) -> list[tuple[str, int]]:
    """Local addresses and ports of the UDP sockets of a process."""
    links = (os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    own = {link[8:-1] for link in links if link.startswith("socket:")}
    sockets = []
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        _, local, *rest = line.split()
        if rest[7] in own:
            address, port = (bytes.fromhex(word) for word in local.split(":"))
            sockets.append((".".join(map(str, address[::-1])), int.from_bytes(port, "big")))
    return sockets
