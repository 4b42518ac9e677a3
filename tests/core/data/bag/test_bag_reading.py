"""Reading bags. rosbags itself is used here only to make bags of other kinds."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from sample_messages import IMAGE, INFO, MESSAGES, STAMP, assert_same, write_bag

from kd3d_core.data.bag import BagReader, typestore
from kd3d_core.errors import DataError


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "small")


def test_messages_come_back_as_they_were_written(bag: Path) -> None:
    with BagReader(bag) as reader:
        assert {name: topic.type for name, topic in reader.topics.items()} == {
            name: message.ros_type for name, message in MESSAGES.items()
        }
        assert reader.topics["/image"].count == 2
        assert (reader.start_ns, reader.end_ns) == (STAMP, STAMP + 10**8)
        assert reader.duration_s == pytest.approx(0.1)
        for raw in reader.messages():
            assert_same(MESSAGES[raw.topic], reader.decode(raw))
        assert len(list(reader.messages(["/image"], stop_ns=STAMP + 1))) == 1
        assert len(list(reader.messages(["/image"], start_ns=STAMP + 1))) == 1
        with pytest.raises(DataError, match="/nothing"):
            next(reader.messages(["/nothing"]))


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


@pytest.mark.parametrize("kept", [0, 1, 7, 60, 150])
def test_recordings_of_no_whole_message_are_refused_in_one_line(
    bag: Path, tmp_path: Path, kept: int
) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    (file,) = (tmp_path / "bag").glob("*.mcap")
    file.write_bytes(file.read_bytes()[:kept])
    for path in (tmp_path / "bag", file):
        with pytest.raises(DataError) as error:
            BagReader(path)
        assert str(path) in str(error.value)
        assert "the bag is damaged: " in str(error.value)
        assert "\n" not in str(error.value)


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
