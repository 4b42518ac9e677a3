"""Recording bags, in a process of its own where it matters."""

import errno
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_players import (
    LIMIT_S,
    START,
    command,
    in_thread,
    looping,
    payloads,
    same,
)
from rosbags.rosbag2 import Writer

from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.errors import DataError
from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import Image
from kd3d_ros.play import play_bag
from kd3d_ros.record import record_bag


def test_two_processes_carry_every_byte(bag: Path, tmp_path: Path) -> None:
    topics = ["/image", "/hasty", "/tf_static"]
    out = tmp_path / "recorded"
    listen = [f"{topic}:sensor_msgs/msg/Image" for topic in topics[:2]] + topics[2:]
    with command("record", *listen, "--out", out, "--idle-seconds", 1) as recorder:
        summary = play_bag(bag, wait_for=dict.fromkeys(topics, 1), wait_timeout_s=LIMIT_S)
        _, log = recorder.communicate(timeout=LIMIT_S)
    assert recorder.returncode == 0, log
    assert summary.sent == {"/tf_static": 2, "/image": 40, "/hasty": 40}
    assert not summary.interrupted
    assert "/image: 40 sent" in str(summary)
    for topic in topics:
        assert same(payloads(out, topic), payloads(bag, topic)), topic
    with BagReader(out) as reader:
        assert reader.topics["/image"].qos.reliability == "reliable"
        assert reader.topics["/hasty"].qos.reliability == "best_effort"
        assert reader.topics["/tf_static"].qos.durability == "transient_local"


def test_camera_images_of_full_size_arrive(tmp_path: Path) -> None:
    path = tmp_path / "large"
    rng = np.random.default_rng(0)
    with BagWriter(path) as writer:
        writer.add_topic("/large", "sensor_msgs/msg/Image", QosProfile("best_effort", depth=5))
        for index in range(10):
            pixels = rng.integers(0, 255, (375, 1242, 3), np.uint8)
            stamp = START + index * 10**8
            writer.write("/large", stamp, Image.from_rgb(pixels, stamp, "camera"))
    out = tmp_path / "recorded"
    with command("record", "/large", "--out", out, "--idle-seconds", 1) as recorder:
        play_bag(path, wait_for={"/large": 1}, wait_timeout_s=LIMIT_S)
        recorder.communicate(timeout=LIMIT_S)
    assert same(payloads(out, "/large"), payloads(path, "/large"))


def test_a_recording_ends_though_messages_go_on_coming(bag: Path, tmp_path: Path) -> None:
    with looping(bag):
        began = time.monotonic()
        counts = record_bag(tmp_path / "out", ["/image"], max_s=2)
        assert time.monotonic() - began < 5
    assert counts["/image"] > 10


def test_a_topic_whose_type_is_not_installed_does_not_end_a_recording(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "recorded"
    ready = threading.Event()
    topics = ["/image:sensor_msgs/msg/Image", "/thing:nowhere_msgs/msg/Thing"]
    with in_thread(lambda: record_bag(out, topics, idle_s=0.5, on_ready=ready.set)):
        play_bag(bag, topics=["/image"], wait_for={"/image": 1}, wait_timeout_s=LIMIT_S)
    assert ready.is_set()
    assert len(payloads(out, "/image")) == 40
    warnings = [record.message for record in caplog.records if "/thing" in record.message]
    assert len(warnings) == 1
    assert "install the ROS package nowhere_msgs" in warnings[0]


def test_a_full_disk_ends_a_recording_but_keeps_it(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "recorded"
    write, errors = Writer.write, []

    def fill_up(writer: Writer, *message: Any) -> None:
        if sum(writer.counts.values()) == 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, *message)

    def record() -> None:
        try:
            record_bag(out, ["/image:sensor_msgs/msg/Image"], max_s=LIMIT_S)
        except DataError as error:
            errors.append(str(error))

    monkeypatch.setattr(Writer, "write", fill_up)
    with in_thread(record):
        play_bag(bag, topics=["/image"], wait_for={"/image": 1}, wait_timeout_s=LIMIT_S)
    assert errors == [
        f"{out}: the bag cannot be written: No space left on device; "
        f"{out} has the 7 messages from before"
    ]
    assert same(payloads(out, "/image"), payloads(bag, "/image")[:7])
    assert [entry.name for entry in tmp_path.iterdir()] == ["recorded"]


def test_a_recording_without_messages_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no message"):
        record_bag(tmp_path / "out", ["/image:sensor_msgs/msg/Image"], max_s=0.3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_recording_with_everything_written(
    bag: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "recorded"
    with command("record", "/image", "/tf_static", "--out", out) as recorder:
        play_bag(
            bag,
            topics=["/image", "/tf_static"],
            wait_for={"/image": 1, "/tf_static": 1},
            wait_timeout_s=LIMIT_S,
        )
        recorder.send_signal(number)
        printed, log = recorder.communicate(timeout=LIMIT_S)
    assert recorder.returncode == 0, log
    assert "/image 40" in printed
    assert same(payloads(out, "/image"), payloads(bag, "/image"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["recorded"]
