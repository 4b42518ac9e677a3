"""Playing and recording bags, with the recorder in a process of its own where it matters."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_core.messages.types import Image, Transform, Transforms
from kd3d_ros.play import play_bag
from kd3d_ros.raw import MessageTypeError, bare_node, message_class, ros_qos
from kd3d_ros.record import record_bag

START = 1_700_000_000 * 10**9
LIMIT_S = 30.0


def image(index: int, size: int = 8) -> Image:
    pixels = np.full((size, size, 3), index % 256, np.uint8)
    return Image.from_rgb(pixels, START + index * 10**7, "camera")


def transform(number: int) -> Transforms:
    pose = np.eye(4)
    pose[0, 3] = number
    return Transforms((Transform(START, "base", f"sensor{number}", pose),))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images in 0.4 s, on a reliable and a best-effort topic, and two static transforms."""
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


def payloads(path: Path, topic: str) -> list[bytes]:
    with BagReader(path) as reader:
        return [message.data for message in reader.messages([topic])]


def same(recorded: list[bytes], played: list[bytes]) -> bool:
    """Equal but for the up to three bytes with which DDS fills a message's last word."""
    return len(recorded) == len(played) and all(
        one[: len(two)] == two and len(one) - len(two) < 4 and not any(one[len(two) :])
        for one, two in zip(recorded, played, strict=True)
    )


@contextmanager
def command(*words: object) -> Iterator[subprocess.Popen[str]]:
    """`kd3d-bag` in a process of its own, killed at the end if need be."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kd3d_ros.bag", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Listener:
    """Subscribes in this process, and spins in a thread until the end of the block."""

    def __init__(self, **topics: str) -> None:
        self.received: dict[str, list[Any]] = {topic: [] for topic in topics}
        self._kinds = topics
        self._changed = threading.Condition()

    def __enter__(self) -> "Listener":
        from rclpy.executors import SingleThreadedExecutor

        self._node_manager = bare_node("listener")
        self._node = self._node_manager.__enter__()
        for topic, kind in self._kinds.items():
            qos = LATCHED if topic == "tf_static" else QosProfile("best_effort", depth=100)
            self._node.create_subscription(
                message_class(kind),
                f"/{topic}",
                lambda message, topic=topic: self._take(topic, message),
                ros_qos(QosProfile(qos.reliability, qos.durability, depth=100)),
            )
        self._executor = SingleThreadedExecutor(context=self._node.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._node_manager.__exit__(None, None, None)

    def _take(self, topic: str, message: Any) -> None:
        with self._changed:
            self.received[topic].append(message)
            self._changed.notify_all()

    def wait(self, topic: str, number: int) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received[topic]) >= number, LIMIT_S), (
                f"{len(self.received[topic])} of {number} on {topic}"
            )
            return list(self.received[topic])


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


def test_late_subscribers_get_all_static_transforms(bag: Path) -> None:
    stop = threading.Event()
    player = threading.Thread(target=play_bag, args=(bag,), kwargs={"loop": True, "stop": stop})
    player.start()
    try:
        with Listener(image="sensor_msgs/msg/Image") as listener:
            listener.wait("image", 1)  # it plays already
            with Listener(tf_static="tf2_msgs/msg/TFMessage") as late:
                messages = late.wait("tf_static", 2)
        frames = {item.transforms[0].child_frame_id for item in messages}
        assert frames == {"sensor0", "sensor1"}
    finally:
        stop.set()
        player.join()


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
    threading.Timer(1.0, stop.set).start()
    summary = play_bag(bag, loop=True, topics=["/tf_static"], stop=stop)
    assert 4 <= summary.sent["/tf_static"] <= 8  # two in each 0.4 s


def test_a_recording_ends_though_messages_go_on_coming(bag: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    player = threading.Thread(target=play_bag, args=(bag,), kwargs={"loop": True, "stop": stop})
    player.start()
    try:
        began = time.monotonic()
        counts = record_bag(tmp_path / "out", ["/image"], max_s=2)
        assert time.monotonic() - began < 5
    finally:
        stop.set()
        player.join()
    assert counts["/image"] > 10


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


def test_a_topic_whose_type_is_not_installed_does_not_end_a_recording(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "recorded"
    ready = threading.Event()
    topics = ["/image:sensor_msgs/msg/Image", "/thing:nowhere_msgs/msg/Thing"]
    options = {"idle_s": 0.5, "on_ready": ready.set}
    recorder = threading.Thread(target=record_bag, args=(out, topics), kwargs=options)
    recorder.start()
    try:
        play_bag(bag, topics=["/image"], wait_for={"/image": 1}, wait_timeout_s=LIMIT_S)
    finally:
        recorder.join(LIMIT_S)
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
    recorder = threading.Thread(target=record)
    recorder.start()
    try:
        play_bag(bag, topics=["/image"], wait_for={"/image": 1}, wait_timeout_s=LIMIT_S)
    finally:
        recorder.join(LIMIT_S)
    assert errors == [
        f"{out}: the bag cannot be written: No space left on device; "
        f"{out} has the 7 messages from before"
    ]
    assert same(payloads(out, "/image"), payloads(bag, "/image")[:7])
    assert [entry.name for entry in tmp_path.iterdir()] == ["recorded"]


def test_impossible_requests_are_refused(bag: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no topic /nothing"):
        play_bag(bag, topics=["/nothing"])
    with pytest.raises(Kd3dError, match="rate 0"):
        play_bag(bag, rate=0)
    with pytest.raises(Kd3dError, match=r"/image has 0 of 2 subscribers after 0\.1 s"):
        play_bag(bag, wait_for={"/image": 2}, wait_timeout_s=0.1)
    with pytest.raises(Kd3dError, match="'image' is no topic"):
        record_bag(tmp_path / "out", ["image"])


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
