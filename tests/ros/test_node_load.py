"""Which images the node works on: the newest, as many as are wanted, if any are."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from fake_detector import FakeDetector
from node_helpers import SENSOR, image_message, stamp_of
from node_setup import Start, held_in_model
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
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


def test_no_inference_while_nobody_listens(start: Start) -> None:
    detector = FakeDetector()
    setup = start(detector, listen=False).ready()
    setup.send(image_message(), image_message())
    assert not detector.calls
    assert setup.node.counters.skipped == {"unwatched": 2}

    setup.node.set_parameters([Parameter("lazy", value=False)])
    setup.send(image_message())
    assert len(detector.calls) == 1

    setup.node.set_parameters([Parameter("lazy", value=True)])
    points: list[PointCloud2] = []
    setup.camera.listen(PointCloud2, "/kd3d_detector/points", points)
    setup.connect()
    setup.spinner.until("the node sees it", setup.node._outputs.results.is_watched)
    setup.send(image_message())
    setup.spinner.until("points", lambda: points)
    assert len(detector.calls) == 2
    assert setup.done() == setup.node.counters.received == 4


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


def test_a_disabled_node_skips_images_until_it_is_enabled(start: Start) -> None:
    services = pytest.importorskip("std_srvs.srv", reason="no std_srvs: run `make env`")
    detector = FakeDetector()
    setup = start(detector).ready()
    client = setup.camera.create_client(services.SetBool, "/kd3d_detector/enable")
    setup.spinner.until("the service", client.service_is_ready)
    for enable, answers in ((False, 0), (True, 1)):
        answer = client.call_async(services.SetBool.Request(data=enable))
        setup.spinner.until("the answer", answer.done)
        assert answer.result().success
        setup.send(image_message())
        assert len(detector.calls) == answers
    assert setup.node.counters.skipped == {"disabled": 1}
    assert setup.node.state == "active"
