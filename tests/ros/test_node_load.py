"""Which images the node works on: the newest, as many as are wanted, if any are."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from fake_detector import FakeDetector
from node_helpers import SENSOR, image_message, stamp_of
from node_setup import Start, held_in_model
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from kd3d_ros import intake


def test_the_subscription_follows_the_reliability_of_the_publishers(start: Start) -> None:
    setup = start()
    camera = setup.camera
    setup.connect()
    assert camera.value("image_reliability") == "best_effort"
    setup.info()
    for qos, reliability in ((QoSProfile(depth=5), "reliable"), (SENSOR, "best_effort")):
        camera.destroy_publisher(camera.images)
        camera.images = camera.create_publisher(Image, "/image", qos)
        setup.spinner.until(
            "another QoS",
            lambda reliability=reliability: camera.value("image_reliability") == reliability,
        )
        camera.statuses.clear()
        setup.connect()
        setup.send(image_message())
    assert setup.node.counters.processed == 2


def test_newest_frame_wins(start: Start) -> None:
    setup, _, release = held_in_model(start)
    for i in range(2, 6):
        setup.camera.images.publish(image_message(stamp=i))
        setup.spinner.until("it arrives", lambda i=i: setup.node.counters.received == i)
    release.set()
    setup.spinner.until("points", lambda: len(setup.camera.points) == 2)
    assert [stamp_of(message)[0] for message in setup.camera.points] == [1, 5]
    assert setup.node.counters.dropped == 3
    assert setup.done() == 5


def test_images_that_come_while_the_executor_is_busy_are_all_counted(start: Start) -> None:
    setup = start().ready()
    for i in range(4):
        setup.camera.images.publish(image_message(stamp=i))
    setup.spinner.until("all have arrived", lambda: setup.node.counters.received == 4)
    setup.spinner.until("all are dealt with", lambda: setup.done() == 4)
    setup.spinner.until(
        "the newest is answered",
        lambda: setup.camera.points and stamp_of(setup.camera.points[-1]) == (3, 0),
    )


def test_images_are_received_only_while_somebody_listens(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector, listen=False)
    spinner, images = setup.spinner, setup.camera.images
    spinner.until("activation", lambda: setup.node.state == "active")
    setup.fresh_status()
    assert setup.node.intake.images is None
    assert "nobody subscribes to a result" in setup.camera.statuses[-1].message
    assert setup.camera.statuses[-1].level == DiagnosticStatus.OK

    points: list[PointCloud2] = []
    listener = setup.camera.listen(PointCloud2, "/kd3d_detector/points", points)
    setup.ready()
    setup.send(image_message())
    spinner.until("points", lambda: points)

    setup.camera.destroy_subscription(listener)
    spinner.until("the node is gone", lambda: not images.get_subscription_count())
    setup.node.set_parameters([Parameter("lazy", value=False)])
    setup.camera.forget_listeners()
    setup.ready()
    setup.send(image_message())
    assert len(detector.calls) == setup.node.counters.processed == 2
    assert setup.node.counters.skipped.total() == 0


def test_no_more_images_than_max_rate(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = start(max_rate=4.0).ready()
    seconds = iter(np.arange(8) * 0.1)
    monkeypatch.setattr(intake, "time", SimpleNamespace(
        monotonic=lambda: next(seconds), perf_counter=time.perf_counter, sleep=time.sleep
    ))  # fmt: skip
    for stamp in range(8):
        setup.send(image_message(stamp=stamp))
    monkeypatch.undo()
    assert setup.node.counters.skipped == {"max_rate": 4}
    assert setup.node.counters.processed == 4
    assert "skipped 4 (max_rate 4)" in str(setup.node.counters)
    setup.node.set_parameters([Parameter("max_rate", value=0.0)])
    setup.send(image_message(stamp=8), image_message(stamp=9))
    assert setup.node.counters.processed == 6


def test_a_disabled_node_receives_no_images_until_it_is_enabled(start: Start) -> None:
    services = pytest.importorskip("std_srvs.srv", reason="no std_srvs: run `make env`")
    setup = start().ready()
    images = setup.camera.images
    client = setup.camera.create_client(services.SetBool, "/kd3d_detector/enable")
    setup.spinner.until("the service", client.service_is_ready)
    for enable in (False, True):
        answer = client.call_async(services.SetBool.Request(data=enable))
        setup.spinner.until("the answer", answer.done)
        assert answer.result().success
        setup.spinner.until(
            "the subscription", lambda enable=enable: images.get_subscription_count() == enable
        )
    setup.camera.statuses.clear()
    setup.ready()
    setup.send(image_message())
    assert setup.node.counters.processed == 1
    assert setup.node.state == "active"


def test_images_that_are_too_old_are_skipped(start: Start) -> None:
    setup = start(stale_after=5.0).ready()
    message = image_message()
    message.header.stamp = setup.node.get_clock().now().to_msg()
    setup.send(image_message(stamp=1.0), message)
    assert setup.node.counters.skipped == {"stale": 1}
    assert setup.node.counters.processed == 1
    assert "older than stale_after" in setup.fresh_status().message


def test_overrides_of_qos_win_over_what_publishers_offer(start: Start) -> None:
    best_effort = {
        "qos_overrides./image.subscription.reliability": "best_effort",
        "qos_overrides./image.subscription.depth": 2,
        "qos_overrides./kd3d_detector/points.publisher.reliability": "best_effort",
    }
    setup = start(**best_effort)
    camera = setup.camera
    camera.destroy_publisher(camera.images)
    camera.images = camera.create_publisher(Image, "/image", QoSProfile(depth=5))
    setup.spinner.until("a connection", lambda: camera.value("image_publishers") == "1")
    (own,) = setup.node.get_subscriptions_info_by_topic("/image")
    assert own.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert camera.value("image_reliability") == "best_effort"
    (points,) = setup.node.get_publishers_info_by_topic("/kd3d_detector/points")
    assert points.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    name = "qos_overrides./image.subscription.depth"
    assert setup.node.get_parameter(name).value == 2


def test_images_of_another_size_are_taken_with_the_camera_info_of_that_size(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector).ready()
    setup.send(image_message(np.zeros((48, 64, 3), np.uint8)))
    # The larger image first: its CameraInfo is on its way.
    large = image_message(np.zeros((96, 128, 3), np.uint8), stamp=2.0)
    setup.node.set_parameters([Parameter("tf_timeout", value=10.0)])
    setup.camera.images.publish(large)
    setup.spinner.until("the larger one", lambda: setup.node.counters.received == 2)
    setup.info(width=128, height=96, focal=120.0)
    setup.spinner.until("its results", lambda: setup.done() == 2)
    assert [(camera.width, camera.focal_px) for _, camera in detector.calls] == [
        (64, 60.0),
        (128, 120.0),
    ]
