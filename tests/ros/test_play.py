"""Playing bags: what subscribers get of them, and when."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from bag_players import LIMIT_S, START, Listener, command, image, looping
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from kd3d_core.data.bag import BagWriter
from kd3d_core.errors import DataError, Kd3dError
from kd3d_ros.play import play_bag
from kd3d_ros.raw import MessageTypeError, message_class
from kd3d_ros.record import record_bag


def test_late_subscribers_get_all_static_transforms(bag: Path) -> None:
    with looping(bag), Listener(image="sensor_msgs/msg/Image") as listener:
        listener.wait("image", 1)  # it plays already
        with Listener(tf_static="tf2_msgs/msg/TFMessage") as late:
            messages = late.wait("tf_static", 2)
    frames = {item.transforms[0].child_frame_id for item in messages}
    assert frames == {"sensor0", "sensor1"}


def test_the_bags_pace_is_kept(bag: Path) -> None:
    began = time.monotonic()
    summary = play_bag(bag, rate=0.5, topics=["/image"])
    assert time.monotonic() - began > 0.39 / 0.5
    assert summary.sent == {"/image": 40}
    assert summary.late_ms["/image"] >= 0


def test_start_offset_keeps_latched_messages(bag: Path) -> None:
    with Listener(tf_static="tf2_msgs/msg/TFMessage", image="sensor_msgs/msg/Image") as listener:
        summary = play_bag(
            bag, start_offset_s=0.3, wait_for={"/image": 1, "/tf_static": 1}, wait_timeout_s=LIMIT_S
        )
        images = listener.wait("image", 10)
        listener.wait("tf_static", 2)
    assert summary.sent["/image"] == 10
    assert images[0].data[0] == 30
    with pytest.raises(DataError, match=r"lasts 0\.4 s"):
        play_bag(bag, start_offset_s=5)
    with pytest.raises(DataError, match=r"nothing is left after 1e\+300 s"):
        play_bag(bag, start_offset_s=1e300)
    with pytest.raises(Kd3dError, match="start offset nan s: give 0 or more"):
        play_bag(bag, start_offset_s=float("nan"))


def test_loops_until_stopped(bag: Path) -> None:
    stop = threading.Event()
    sent: list[int] = []

    def count(message: object) -> None:
        sent.append(1)
        if len(sent) == 50:
            stop.set()

    summary = play_bag(bag, loop=True, rate=4, topics=["/image"], stop=stop, on_sent=count)
    assert summary.interrupted
    assert summary.sent == {"/image": 50}


def test_a_short_topic_is_not_repeated_before_the_bags_end(bag: Path) -> None:
    stop = threading.Event()
    times_s: list[float] = []

    def count(message: object) -> None:
        times_s.append(time.monotonic())
        if len(times_s) == 8:
            stop.set()

    began_s = time.monotonic()
    summary = play_bag(bag, loop=True, topics=["/tf_static"], stop=stop, on_sent=count)
    assert summary.sent["/tf_static"] == 8
    assert times_s[6] - began_s > 3 * 0.39  # two in each 0.4 s


def test_clock_is_the_bags_time(bag: Path) -> None:
    with Listener(clock="rosgraph_msgs/msg/Clock", image="sensor_msgs/msg/Image") as listener:
        play_bag(bag, clock=True, rate=0.5, wait_for={"/image": 1}, wait_timeout_s=LIMIT_S)
        listener.wait("image", 40)
        ticks = [
            message.clock.sec * 10**9 + message.clock.nanosec
            for message in listener.wait("clock", 20)
        ]
    assert ticks == sorted(ticks)
    assert ticks[0] >= START
    assert ticks[-1] == START + 39 * 10**7


def test_types_that_are_not_installed_are_skipped_and_counted(tmp_path: Path) -> None:
    kind = "nowhere_msgs/msg/Thing"
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg("int32 number", kind))
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        thing = writer.add_connection("/thing", kind, typestore=store)
        text = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        for stamp in range(3):
            writer.write(thing, stamp, store.serialize_cdr(store.types[kind](stamp), kind))
        hello = store.types["std_msgs/msg/String"]("hello")
        writer.write(text, 1, store.serialize_cdr(hello, "std_msgs/msg/String"))
    summary = play_bag(tmp_path / "bag")
    assert summary.sent == {"/text": 1}
    reason, count = summary.skipped["/thing"]
    assert count == 3
    assert "nowhere_msgs" in reason
    with pytest.raises(DataError, match="no topic can be played"):
        play_bag(tmp_path / "bag", topics=["/thing"])
    with pytest.raises(MessageTypeError, match="install the ROS package nowhere_msgs"):
        record_bag(tmp_path / "out", [f"/thing:{kind}"])
    assert not (tmp_path / "out").exists()


def test_a_type_is_not_imported_before_it_is_known_to_be_one() -> None:
    """A bag may name any module: `antigravity` opens a browser."""
    sys.modules.pop("antigravity", None)
    with pytest.raises(MessageTypeError, match="install the ROS package antigravity"):
        message_class("antigravity/msg/Thing")
    assert "antigravity" not in sys.modules


def test_damaged_messages_are_skipped_and_counted(tmp_path: Path, caplog) -> None:
    cut_off = b"\x28\xb5\x2f\xfd"
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        for index, content in enumerate([image(1), cut_off, image(2), cut_off]):
            writer.write("/image", START + index, content)
    summary = play_bag(tmp_path / "bag")
    assert summary.sent == {"/image": 2}
    assert summary.skipped["/image"] == ("what should be compressed with zstd isn't", 2)
    assert caplog.text.count("is skipped") == 1


@pytest.mark.parametrize("name", ["", "/1abc", "/a b", f"/{'a' * 5000}"])
def test_names_that_ros_refuses_are_skipped_and_counted(name: str, tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for topic in ("/image", name):
            writer.add_topic(topic, "sensor_msgs/msg/Image")
            writer.write(topic, START, image(1))
    summary = play_bag(tmp_path / "bag")
    assert summary.sent == {"/image": 1}
    reason, count = summary.skipped[name]
    assert count == 1
    assert reason.startswith("Invalid topic name")
    assert max(map(len, str(summary).splitlines())) < 200


@pytest.mark.parametrize("wrong", [0, START + 200 * 365 * 86400 * 10**9, 2**63 - 2])
def test_stamps_centuries_away_are_named_and_not_waited_for(
    wrong: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stamps = sorted([wrong, *(START + index * 10**7 for index in range(5))])
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        for stamp in stamps:
            writer.write("/image", stamp, image(1))
    stop, sent = threading.Event(), []

    def count(message: Any) -> None:
        sent.append(message.stamp_ns)
        if len(sent) == 2 * len(stamps):
            stop.set()

    began = time.monotonic()
    play_bag(tmp_path / "bag", loop=True, clock=True, stop=stop, on_sent=count)
    assert sent == 2 * stamps
    assert time.monotonic() - began < LIMIT_S
    (line, again) = [record.message for record in caplog.records]
    assert line == again
    assert "the stamp of a message on /image is " in line


def test_impossible_requests_are_refused(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no topic /nothing"):
        play_bag(bag, topics=["/nothing"])
    with pytest.raises(Kd3dError, match="rate 0"):
        play_bag(bag, rate=0)
    with pytest.raises(Kd3dError, match=r"/image has 0 of 2 subscribers after 0\.1 s"):
        play_bag(bag, wait_for={"/image": 2}, wait_timeout_s=0.1)
    with pytest.raises(Kd3dError, match="'image' is no topic"):
        record_bag(tmp_path / "out", ["image"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_playing_with_a_summary(bag: Path, number: int) -> None:
    with (
        Listener(image="sensor_msgs/msg/Image") as listener,
        command("play", bag, "--loop", "--topics", "/image") as player,
    ):
        listener.wait("image", 1)
        player.send_signal(number)
        printed, log = player.communicate(timeout=LIMIT_S)
    assert player.returncode == 0, log
    assert printed.startswith("interrupted")
    assert "Traceback" not in log


def test_without_ros_the_error_is_one_line(bag: Path) -> None:
    code = (
        "import sys; sys.modules['rclpy'] = None; sys.argv = ['kd3d-bag', 'play', sys.argv[1]];"
        "from kd3d_ros.bag import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(bag)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 1
    assert "needs ROS 2's rclpy" in done.stderr
    assert done.stderr.count("\n") == 1
