"""Reading and writing bags. rosbags itself is used here only to make bags of other kinds."""

import errno
import fcntl
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from kd3d_core import files
from kd3d_core.data.bag import LATCHED, BagReader, BagWriter, QosProfile, codec, typestore
from kd3d_core.data.messages import (
    CameraInfo,
    Image,
    Message,
    ObjectBoxes,
    PointCloud,
    Transform,
    Transforms,
)
from kd3d_core.errors import DataError, ImageError

STAMP = 1_317_042_272_123_456_789
RNG = np.random.default_rng(0)

IMAGE = Image.from_rgb(RNG.integers(0, 255, (6, 9, 3), np.uint8), STAMP, "camera")
INFO = CameraInfo(
    STAMP,
    "camera",
    6,
    9,
    "plumb_bob",
    RNG.normal(size=5),
    RNG.normal(size=9),
    np.eye(3).reshape(9),
    RNG.normal(size=12),
)
CLOUD = PointCloud(STAMP, "velodyne", RNG.normal(size=(50, 4)).astype(np.float32))
POSE = np.array([[0.0, 0, 1, 0.27], [-1, 0, 0, -0.01], [0, -1, 0, -0.08], [0, 0, 0, 1]])
TRANSFORMS = Transforms((Transform(STAMP, "velodyne", "camera", POSE),))
BOXES = ObjectBoxes(
    STAMP,
    "velodyne",
    np.array([[10, 2, -1.7, 4, 1.6, 1.5, 0.3], [30, -4, -1.6, 0.8, 0.6, 1.8, -2]], np.float32),
    ("Car", "Pedestrian"),
    np.array([1.0, 0.25]),
)
MESSAGES: dict[str, tuple[str, Message]] = {
    "/image": ("sensor_msgs/msg/Image", IMAGE),
    "/info": ("sensor_msgs/msg/CameraInfo", INFO),
    "/points": ("sensor_msgs/msg/PointCloud2", CLOUD),
    "/tf_static": ("tf2_msgs/msg/TFMessage", TRANSFORMS),
    "/boxes": ("vision_msgs/msg/Detection3DArray", BOXES),
}


def assert_same(ours: object, other: object) -> None:
    """Equal dataclasses, whose arrays may differ by rounding in a quaternion or a centre."""
    assert type(ours) is type(other)
    for name, value in vars(ours).items():
        again = getattr(other, name)
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(again, value, atol=1e-6)
        elif isinstance(value, tuple) and value and isinstance(value[0], Transform):
            for one, two in zip(value, again, strict=True):
                assert_same(one, two)
        else:
            assert again == value


def write_bag(path: Path) -> Path:
    with BagWriter(path) as writer:
        for topic, (kind, message) in MESSAGES.items():
            writer.add_topic(topic, kind, LATCHED if topic == "/tf_static" else None)
            writer.write(topic, STAMP, message)
        writer.write("/image", STAMP + 10**8, IMAGE)
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "small")


def test_messages_come_back_as_they_were_written(bag: Path) -> None:
    with BagReader(bag) as reader:
        assert {name: topic.type for name, topic in reader.topics.items()} == {
            name: kind for name, (kind, _) in MESSAGES.items()
        }
        assert reader.topics["/image"].count == 2
        assert (reader.start_ns, reader.end_ns) == (STAMP, STAMP + 10**8)
        assert reader.duration_s == pytest.approx(0.1)
        for raw in reader.messages():
            assert_same(MESSAGES[raw.topic][1], reader.decode(raw))
        assert len(list(reader.messages(["/image"], stop_ns=STAMP + 1))) == 1
        assert len(list(reader.messages(["/image"], start_ns=STAMP + 1))) == 1
        with pytest.raises(DataError, match="/nothing"):
            next(reader.messages(["/nothing"]))


def test_metadata_is_what_rosbag2_reads_from_humble_on(bag: Path) -> None:
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] == 8
    assert metadata["storage_identifier"] == "mcap"
    assert metadata["message_count"] == 6
    assert [bag / name for name in metadata["relative_file_paths"]] == list(bag.glob("*.mcap"))
    qos = {
        topic["topic_metadata"]["name"]: yaml.safe_load(
            topic["topic_metadata"]["offered_qos_profiles"]
        )
        for topic in metadata["topics_with_message_count"]
    }
    # rmw's numbers: reliable 1; transient local 1, volatile 2; keep last 1.
    latched, image = qos["/tf_static"][0], qos["/image"][0]
    assert (latched["reliability"], latched["durability"], latched["history"]) == (1, 1, 1)
    assert (image["reliability"], image["durability"], image["depth"]) == (1, 2, 10)
    with BagReader(bag) as reader:
        assert reader.topics["/tf_static"].qos == LATCHED
        assert reader.topics["/image"].qos == QosProfile()


def test_vision_msgs_is_the_interface_that_everyone_has() -> None:
    kind = "vision_msgs/msg/Detection3DArray"
    assert typestore((kind,)).hash_rihs01(kind) == (
        "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    )


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        with pytest.raises(DataError, match=r"nowhere_msgs/msg/Thing is not defined"):
            writer.add_topic("/thing", "nowhere_msgs/msg/Thing")
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        writer.write("/image", STAMP, IMAGE)


def test_foreign_mcap_with_compressed_messages(foreign_bags: list[Path]) -> None:
    images = {}
    for path in foreign_bags:
        with BagReader(path) as reader:
            assert list(reader.topics) == ["/camera/image_raw"]
            assert reader.topics["/camera/image_raw"].type == "sensor_msgs/msg/Image"
            decoded = [reader.decode(message) for message in reader.messages()]
        assert all(image.rgb().shape == (480, 640, 3) for image in decoded)
        images[decoded[0].encoding] = decoded
    # The second file is the first with another encoding written over it.
    (bgr,) = images["bgr8"]
    rgb = next(image for image in images["rgb8"] if image.stamp_ns == bgr.stamp_ns)
    np.testing.assert_array_equal(rgb.rgb(), bgr.rgb()[..., ::-1])


def test_a_folder_that_lost_its_metadata_is_read(bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with BagReader(tmp_path / "bag") as reader:
        assert sum(topic.count for topic in reader.topics.values()) == 6
        assert len(list(reader.messages())) == 6


@pytest.mark.parametrize("kept", [0, 1, 7, 60, 0.3, 0.7, -1, -40])
def test_cut_off_recordings_are_refused_in_one_line(bag: Path, tmp_path: Path, kept: float) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else int(kept)])
    for path in (tmp_path / "bag", file):
        with pytest.raises(DataError) as error:
            BagReader(path)
        assert str(path) in str(error.value)
        assert "ros2 bag reindex" in str(error.value)
        assert "\n" not in str(error.value)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_raises_data_errors_only(bag: Path, tmp_path: Path, data: st.DataObject) -> None:
    original = next(bag.glob("*.mcap")).read_bytes()
    broken = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "broken.mcap"
    path.write_bytes(broken)
    with suppress(DataError), BagReader(path) as reader:
        for message in reader.messages():
            reader.decode(message)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "metadata.yaml").write_text("rosbag2_bagfile_information: {"),
        lambda folder: (folder / "metadata.yaml").write_text("something: else"),
        lambda folder: (folder / "metadata.yaml").write_bytes(b"\xff\xfe"),
        lambda folder: next(folder.glob("*.mcap")).unlink(),
        shutil.rmtree,
        lambda folder: [file.unlink() for file in folder.iterdir()],
    ],
    ids=["yaml", "keys", "utf8", "no file", "no folder", "empty folder"],
)
def test_spoilt_folders_are_refused(
    bag: Path, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    spoil(tmp_path / "bag")
    with pytest.raises(DataError, match=str(tmp_path / "bag")):
        BagReader(tmp_path / "bag")


def test_ros1_bags_are_read_as_ros2(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    kinds = store.types
    header = kinds["std_msgs/msg/Header"](
        seq=5, stamp=kinds["builtin_interfaces/msg/Time"](7, 8), frame_id="camera"
    )
    info = kinds["sensor_msgs/msg/CameraInfo"](
        header=header, height=6, width=9, distortion_model="plumb_bob", D=INFO.d, K=INFO.k,
        R=INFO.r, P=INFO.p, binning_x=0, binning_y=0,
        roi=kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )  # fmt: skip
    image = kinds["sensor_msgs/msg/Image"](header, 6, 9, "rgb8", 0, 27, IMAGE.data)
    with Ros1Writer(tmp_path / "old.bag") as writer:
        for topic, message, latch in (("/info", info, 1), ("/image", image, 0)):
            connection = writer.add_connection(
                topic, message.__msgtype__, typestore=store, latching=latch
            )
            raw = store.serialize_ros1(message, message.__msgtype__)
            writer.write(connection, 7 * 10**9 + 8, raw)
    with BagReader(tmp_path / "old.bag") as reader:
        assert reader.topics["/info"].qos.durability == "transient_local"
        assert reader.topics["/image"].type == "sensor_msgs/msg/Image"
        decoded = {message.topic: reader.decode(message) for message in reader.messages()}
    assert decoded["/info"].stamp_ns == 7 * 10**9 + 8
    np.testing.assert_allclose(decoded["/info"].p, INFO.p)
    np.testing.assert_array_equal(decoded["/image"].rgb(), IMAGE.rgb())


def test_ros1_messages_that_ros2_has_changed(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    kinds = store.types
    header = kinds["std_msgs/msg/Header"](5, kinds["builtin_interfaces/msg/Time"](7, 8), "map")
    zero = kinds["geometry_msgs/msg/Point"](0, 0, 0)
    kind = "visualization_msgs/msg/Marker"  # has textures in ROS 2
    message = kinds[kind](
        header, "cars", 4, 5, 0,
        kinds["geometry_msgs/msg/Pose"](zero, kinds["geometry_msgs/msg/Quaternion"](0, 0, 0, 1)),
        kinds["geometry_msgs/msg/Vector3"](0.1, 0, 0),
        kinds["std_msgs/msg/ColorRGBA"](1, 0, 0, 1),
        kinds["builtin_interfaces/msg/Duration"](1, 0),
        False, [zero, zero], [], "hello", "", False,
    )  # fmt: skip
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/marker", kind, typestore=store)
        writer.write(connection, 1, store.serialize_ros1(message, kind))
    with BagReader(tmp_path / "old.bag") as reader:
        (raw,) = reader.messages()
    new = typestore((kind,)).deserialize_cdr(raw.data, kind)
    assert (new.ns, new.type, new.text, len(new.points)) == ("cars", 5, "hello", 2)
    assert (new.header.frame_id, new.header.stamp.nanosec) == ("map", 8)


def test_sqlite_bags_without_definitions(tmp_path: Path) -> None:
    store = typestore(("sensor_msgs/msg/Image",))
    with BagReader(write_bag(tmp_path / "mcap")) as reader:
        raw = next(reader.messages(["/image"])).data
    writer = Ros2Writer(tmp_path / "db", version=8, storage_plugin=StoragePlugin.SQLITE3)
    with writer:
        connection = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=store)
        writer.write(connection, STAMP, raw)
    with BagReader(tmp_path / "db") as reader:
        (message,) = reader.messages()
        assert_same(IMAGE, reader.decode(message))


def test_clouds_of_other_drivers_are_read_by_field_name(tmp_path: Path) -> None:
    kind = "sensor_msgs/msg/PointCloud2"
    store = typestore((kind,))
    layout = np.dtype(
        {
            "names": ["ring", "intensity", "z", "y", "x"],
            "formats": ["<u2", "u1", "<f4", "<f4", "<f8"],
            "offsets": [0, 2, 4, 8, 16],
            "itemsize": 32,
        }
    )
    points = np.zeros((2, 3), layout)
    points["x"] = np.arange(6).reshape(2, 3)
    points["y"], points["z"], points["intensity"] = -1, 0.5, 200
    rows = np.zeros((2, 3 * 32 + 8), np.uint8)  # rows padded
    rows[:, :96] = points.view(np.uint8).reshape(2, 96)
    codes = {"ring": (0, 4), "intensity": (2, 2), "z": (4, 7), "y": (8, 7), "x": (16, 8)}
    cloud = store.types[kind](
        header=store.types["std_msgs/msg/Header"](
            store.types["builtin_interfaces/msg/Time"](1, 2), "velodyne"
        ),
        height=2,
        width=3,
        fields=[
            store.types["sensor_msgs/msg/PointField"](name, offset, code, 1)
            for name, (offset, code) in codes.items()
        ],
        is_bigendian=False,
        point_step=32,
        row_step=104,
        data=rows.reshape(-1),
        is_dense=True,
    )

    def read(message: object) -> PointCloud:
        path = tmp_path / "cloud"
        with BagWriter(path, overwrite=True) as writer:
            writer.add_topic("/points", kind)
            writer.write("/points", STAMP, bytes(store.serialize_cdr(message, kind)))
        with BagReader(path) as reader:
            return reader.decode(next(reader.messages()))

    np.testing.assert_array_equal(read(cloud).points, [[x, -1, 0.5, 200] for x in range(6)])
    cloud.row_step = 90
    with pytest.raises(DataError, match="row_step 90"):
        read(cloud)
    cloud.row_step = 104
    cloud.fields = [field for field in cloud.fields if field.name != "y"]
    with pytest.raises(DataError, match="no field 'y'"):
        read(cloud)


def test_transforms_that_are_no_poses_are_told_and_left_out(tmp_path: Path, caplog) -> None:
    kind = "tf2_msgs/msg/TFMessage"
    store = typestore((kind,))
    message = codec.encode(TRANSFORMS, store.types)
    message.transforms[0].transform.rotation.w = float("nan")
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/tf_static", kind, LATCHED)
        writer.write("/tf_static", STAMP, bytes(store.serialize_cdr(message, kind)))
    with BagReader(tmp_path / "bag") as reader:
        (raw,) = reader.messages()
        assert len(reader.decode(raw).transforms) == len(TRANSFORMS.transforms) - 1
    assert re.search(r"velodyne -> camera is left out: .* not finite", caplog.text)


def test_messages_of_types_that_kd3d_does_not_know(tmp_path: Path) -> None:
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg("int32 number", "nowhere_msgs/msg/Thing"))
    kind = "nowhere_msgs/msg/Thing"
    with Ros2Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/thing", kind, typestore=store)
        writer.write(connection, 1, store.serialize_cdr(store.types[kind](3), kind))
    with BagReader(tmp_path / "bag") as reader:
        (message,) = reader.messages()
        assert message.data == b"\x00\x01\x00\x00\x03\x00\x00\x00"
        with pytest.raises(DataError, match="/thing"):
            reader.decode(message)


def test_a_bag_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bag"
    write_bag(path)
    with pytest.raises(DataError, match="exists already"):
        BagWriter(path)

    def fail_half_way() -> None:
        with BagWriter(path, overwrite=True) as writer:
            writer.add_topic("/image", "sensor_msgs/msg/Image")
            writer.write("/image", STAMP, IMAGE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with BagReader(path) as reader:
        assert len(reader.topics) == len(MESSAGES)
    with BagWriter(path, overwrite=True) as writer:
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        writer.write("/image", STAMP, IMAGE)
    with BagReader(path) as reader:
        assert list(reader.topics) == ["/image"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"]


def write_images(path: Path, number: int, overwrite: bool = False) -> None:
    """As a recording does: what was written before an error is kept."""
    with BagWriter(path, overwrite, keep_partial=True) as writer:
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        for index in range(number):
            writer.write("/image", STAMP + index, IMAGE)


def images_in(path: Path) -> int:
    with BagReader(path) as reader:
        assert all(raw.data for raw in reader.messages())
        count = reader.topics["/image"].count
        assert len(list(reader.messages())) == count
        return count


class SmallDisk:
    """Stands for the file of the bag: after `room` bytes, those of deleted reserves apart, ENOSPC.

    A write that doesn't fit is cut off half-way, as a disk does it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.reserved = room, 0
        allocate, disk = os.posix_fallocate, self

        class File(io.FileIO):
            def write(self, data: object) -> int:
                view = memoryview(data)  # type: ignore[arg-type]
                reserves = Path(str(self.name)).parents[1].glob("*.reserve")
                held = sum(file.stat().st_size for file in reserves)
                left = disk.room - held - self.tell()
                if left <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return super().write(view[:left])

        def reserve(descriptor: int, offset: int, size: int) -> None:
            if size > disk.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            allocate(descriptor, offset, size)

        def open_file(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            if path.suffix == ".mcap" and mode == "xb":
                return io.BufferedWriter(File(path, "x"))
            return original(path, mode, *args, **options)

        original = Path.open
        monkeypatch.setattr(os, "posix_fallocate", reserve)
        monkeypatch.setattr(Path, "open", open_file)


@pytest.mark.parametrize("room", [3_000_000, 4_000_001, 5_276_543, 2_700_000, 2_200_000])
def test_a_recording_on_a_full_disk_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    SmallDisk(monkeypatch, room)
    path = tmp_path / "bag"
    with pytest.raises(DataError) as error:
        write_images(path, 100_000)
    print(error.value)
    count = images_in(path)
    assert count * len(IMAGE.data) > (room - 2 * 2**20) / 2
    assert str(error.value) == (
        f"{path}: the bag cannot be written: No space left on device; "
        f"{path} has the {count} messages from before"
    )
    assert yaml.safe_load((path / "metadata.yaml").read_text())
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"]
    assert {file.suffix for file in path.iterdir()} == {".mcap", ".yaml"}


def test_without_any_space_there_is_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallDisk(monkeypatch, 1000)
    with pytest.raises(DataError, match="No space left"):
        BagWriter(tmp_path / "bag")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), DataError("no\nway")])
def test_a_recording_that_fails_is_kept(tmp_path: Path, error: Exception) -> None:
    def fail_half_way(written: int) -> None:
        with BagWriter(tmp_path / "bag", keep_partial=True) as writer:
            writer.add_topic("/image", "sensor_msgs/msg/Image")
            for index in range(written):
                writer.write("/image", STAMP + index, IMAGE)
            raise error

    with pytest.raises(type(error)):
        fail_half_way(0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"^(by zero|no); .*bag has the 3 messages from before$"):
        fail_half_way(3)
    assert images_in(tmp_path / "bag") == 3


def test_an_interrupted_recording_is_kept(tmp_path: Path) -> None:
    def interrupt() -> None:
        with BagWriter(tmp_path / "bag", keep_partial=True) as writer:
            writer.add_topic("/image", "sensor_msgs/msg/Image")
            writer.write("/image", STAMP, IMAGE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert images_in(tmp_path / "bag") == 1


def test_a_recording_that_cannot_be_finished_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Ros2Writer, "close", refuse)
    with pytest.raises(DataError, match=r"what was recorded is kept in .*mcap recover"):
        write_images(tmp_path / "bag", 3)
    assert len(list(tmp_path.glob(".bag.partial-*/bag/bag.mcap"))) == 1


def test_replacing_a_bag_never_loses_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bag"
    write_images(path, 1)
    rename = Path.rename

    def refuse(source: Path, target: Path) -> Path:
        # The new bag alone cannot be moved; and then, with `stuck`, nor can the old one back.
        if target == path and (stuck or source.name == "bag"):
            raise OSError(errno.EACCES, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse)
    stuck = False
    with pytest.raises(DataError, match=r"Permission denied; what was recorded is kept") as error:
        write_images(path, 2, overwrite=True)
    (kept,) = tmp_path.glob(".bag.partial-*")
    assert (images_in(path), images_in(kept / "bag")) == (1, 2)
    assert "recover" not in str(error.value)
    shutil.rmtree(kept)
    stuck = True
    with pytest.raises(DataError, match="Permission denied"):
        write_images(path, 2, overwrite=True)
    (kept,) = tmp_path.glob(".bag.partial-*")
    assert images_in(kept / "bag.replaced") == 1


def test_a_bag_that_came_in_between_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "bag"

    def write_while_another_appears() -> None:
        with BagWriter(path) as writer:
            writer.add_topic("/image", "sensor_msgs/msg/Image")
            writer.write("/image", STAMP, IMAGE)
            write_images(path, 3)

    with pytest.raises(DataError, match="exists already"):
        write_while_another_appears()
    assert images_in(path) == 3


def test_opening_that_fails_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Ros2Writer, "open", refuse)
    with pytest.raises(DataError, match="Disk quota exceeded"):
        BagWriter(tmp_path / "bag")
    assert list(tmp_path.iterdir()) == []


def test_only_bags_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "final.tex").write_text("years of work")
    with pytest.raises(DataError, match="no bag"):
        BagWriter(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "final.tex").read_text() == "years of work"


def test_no_message_no_bag(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no message"), BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/image", "sensor_msgs/msg/Image")
    assert list(tmp_path.iterdir()) == []


def test_unusable_images_say_why() -> None:
    assert Image(0, "c", 2, 2, "mono8", 3, np.arange(6, dtype=np.uint8)).rgb().tolist() == [
        [[0, 0, 0], [1, 1, 1]],
        [[3, 3, 3], [4, 4, 4]],
    ]
    with pytest.raises(ImageError, match="16UC1"):
        Image(0, "c", 2, 2, "16UC1", 4, np.zeros(8, np.uint8)).rgb()
    with pytest.raises(ImageError, match="11 bytes"):
        Image(0, "c", 2, 2, "rgb8", 6, np.zeros(11, np.uint8)).rgb()
    with pytest.raises(ImageError, match="step 5"):
        Image(0, "c", 2, 2, "rgb8", 5, np.zeros(12, np.uint8)).rgb()


WRITE_UNTIL_KILLED = """
import sys, time
from kd3d_core.data.bag import BagWriter
with BagWriter(sys.argv[1], overwrite=True, keep_partial=sys.argv[2] == "keep") as writer:
    writer.add_topic("/image", "sensor_msgs/msg/Image")
    writer.write("/image", 1, bytes(9))
    print("written", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["keep", "remove"])
def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bag"

    def left() -> int:
        return len(list(tmp_path.glob(".bag.partial-*")))

    command = [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"written\n"
            write_images(path, 1)  # beside one that lives
            assert left() == 1
        finally:
            process.kill()
    assert left() == 1
    with BagWriter(path, overwrite=True) as writer:
        assert left() == (2 if kind == "keep" else 1)
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        writer.write("/image", STAMP, IMAGE)
    # A recording can't be had again, so it stays until somebody has looked at it.
    assert left() == (1 if kind == "keep" else 0)
    assert images_in(path) == 1


def test_a_bag_that_a_killed_process_was_replacing_goes_back(tmp_path: Path) -> None:
    path, left = tmp_path / "bag", tmp_path / ".bag.partial-x"
    write_images(path, 2)
    left.mkdir()
    (left / ".lock").touch()
    path.rename(left / "bag.replaced")
    with pytest.raises(DataError, match="exists already"):
        BagWriter(path)
    assert images_in(path) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["bag"]


def test_a_folder_taken_for_abandoned_while_it_is_claimed_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may look between the making of the lock and its locking."""
    lock, tidied = fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not tidied:
            tidied.append("in another process")
            for folder in files.abandoned_folders(tmp_path, "a-"):
                tidied.append(folder)
                shutil.rmtree(folder)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    claimed = files.ClaimedFolder(tmp_path, "a-")
    assert len(tidied) == 2
    assert list(tmp_path.iterdir()) == [claimed.path]
    assert list(files.abandoned_folders(tmp_path, "a-")) == []
    claimed.release()
    assert list(files.abandoned_folders(tmp_path, "a-")) == [claimed.path]
