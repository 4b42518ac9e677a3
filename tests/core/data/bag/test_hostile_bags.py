"""Bags that hold other things than ROS 2 messages, are damaged, or mean ill."""

import bz2
import random
import re
import shutil
import sqlite3
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sample_messages import IMAGE, STAMP, assert_same, write_bag

from kd3d_core.data.bag import BagReader, compression, scan_mcap, scan_sqlite, storage, typestore
from kd3d_core.data.bag.compression import unbz2, unlz4, unzstd
from kd3d_core.data.bag.types import bag_typestore
from kd3d_core.errors import DataError
from kd3d_core.messages.encode import encode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
IMAGE_MSG = MessageDefinition(
    MessageDefinitionFormat.MSG,
    typestore(("sensor_msgs/msg/Image",)).generate_msgdef("sensor_msgs/msg/Image", 2)[0],
)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def record(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


class Mcap:
    """An MCAP file without chunks and summary, of channels of any kind."""

    def __init__(self, profile: str = "ros2") -> None:
        self._content = MAGIC + record(1, text(profile) + text("test"))
        self._count = 0

    def add(
        self,
        topic: str,
        data: bytes,
        *,
        schema: tuple[str, str, bytes] | None = ("sensor_msgs/msg/Image", "ros2msg", b""),
        encoding: str = "cdr",
        metadata: bytes = b"",
        stamp: int = STAMP,
    ) -> "Mcap":
        self._count = key = self._count + 1
        if schema is not None:
            name, kind, definition = schema
            definition = definition or IMAGE_MSG.data.encode()
            words = text(name) + text(kind) + text(definition)
            self._content += record(3, struct.pack("<H", key) + words)
        channel = struct.pack("<HH", key, key if schema else 0)
        self._content += record(4, channel + text(topic) + text(encoding) + text(metadata))
        self._content += record(5, struct.pack("<HIQQ", key, 0, stamp, stamp) + data)
        return self

    def write(self, path: Path) -> Path:
        footer = record(2, struct.pack("<QQI", 0, 0, 0))
        path.write_bytes(self._content + record(15, bytes(4)) + footer + MAGIC)
        return path


def read_all(path: Path) -> list[object]:
    with BagReader(path) as reader:
        return [reader.decode(message) for message in reader.messages()]


FOREIGN: dict[str, dict[str, object]] = {
    "json": {"schema": ("Note", "jsonschema", b"{}"), "encoding": "json"},
    "protobuf": {"schema": ("foxglove.Log", "protobuf", b"\xff\xfe\n\x80"), "encoding": "protobuf"},
    "flatbuffer": {"schema": ("Log", "flatbuffer", b"\x00\x01"), "encoding": "flatbuffer"},
    "no schema": {"schema": None, "encoding": "json"},
    "no schema, CDR": {"schema": None},
    "ROS 1": {"schema": ("std_msgs/String", "ros1msg", b"string data"), "encoding": "ros1"},
    "type without package": {"schema": ("Image", "ros2msg", b"uint8 a")},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("profile", ["ros2", ""])
def test_a_channel_of_another_kind_is_left_out_and_counted(
    kind: str, profile: str, tmp_path: Path
) -> None:
    file = Mcap(profile).add("/image", encode(IMAGE)).add("/note", b"{}", **FOREIGN[kind])
    with BagReader(file.write(tmp_path / "bag.mcap")) as reader:
        assert list(reader.topics) == ["/image"]
        reason, count = reader.foreign["/note"]
        assert count == 1
        assert "\n" not in reason
        (message,) = reader.messages()
        assert_same(IMAGE, reader.decode(message))
        with pytest.raises(DataError, match="topic /note is left out, "):
            next(reader.messages(["/note"]))


@pytest.mark.parametrize(
    ("kind", "encoding", "definition"),
    [
        ("pkg/srv/Add_Event", "ros2msg", b"service_msgs/ServiceEventInfo info\nno such syntax!"),
        ("pkg/action/Move_Feedback", "ros2idl", b"module { damaged"),
        ("pkg/msg/Status", "ros2msg", b"Missing detail"),
        ("pkg/msg/Status", "unknown", b"?"),
        ("sensor_msgs/msg/Image", "unknown", b"?"),
        ("sensor_msgs/msg/Image", "ros2msg", b"std_msgs/Header header\nMissing rest"),
    ],
)
def test_definitions_that_are_not_understood_cost_nothing(
    kind: str, encoding: str, definition: bytes, tmp_path: Path
) -> None:
    file = Mcap().add("/other", encode(IMAGE), schema=(kind, encoding, definition))
    with BagReader(file.add("/image", encode(IMAGE)).write(tmp_path / "bag.mcap")) as reader:
        assert reader.topics["/other"].type == kind
        assert not reader.foreign
        images = [reader.decode(raw) for raw in reader.messages() if "Image" in raw.type]
        assert len(images) == 1 + ("Image" in kind)


@pytest.mark.parametrize("qos", ["- {a: ]", "- {depth: many}", "7", "a" * 10**6])
def test_quality_of_service_that_is_not_understood(qos: str, tmp_path: Path) -> None:
    metadata = text("offered_qos_profiles") + text(qos)
    path = Mcap().add("/image", encode(IMAGE), metadata=metadata).write(tmp_path / "bag.mcap")
    with BagReader(path) as reader:
        assert reader.topics["/image"].qos.reliability == "reliable"
        assert len(list(reader.messages())) == 1


@pytest.mark.parametrize(
    "definition",
    [
        "uint8[4000000000] data",
        "string[20000000] data",
        f"A0[200] a\n{'=' * 80}\nMSG: sensor_msgs/A0\nA1[200] a\n"
        f"{'=' * 80}\nMSG: sensor_msgs/A1\nuint8[200] a\n",
        "uint8 a\n" * 40_000,
    ],
    ids=["array", "strings", "nested", "long"],
)  # fmt: skip
def test_definitions_that_ask_for_too_much_are_refused(definition: str) -> None:
    with pytest.raises(DataError, match="the definition of sensor_msgs/msg/Image in the bag has"):
        bag_typestore(
            "sensor_msgs/msg/Image", MessageDefinition(MessageDefinitionFormat.MSG, definition)
        )


def test_definitions_of_ros_pass() -> None:
    assert bag_typestore("sensor_msgs/msg/Image", IMAGE_MSG) is not None


def test_a_definition_that_contains_itself_is_not_understood(tmp_path: Path) -> None:
    definition = MessageDefinition(MessageDefinitionFormat.MSG, "sensor_msgs/Image inner")
    assert bag_typestore("sensor_msgs/msg/Image", definition) is None


# Compressed


PACKERS: dict[str, tuple[Callable[..., bytes], Callable[[bytes], bytes]]] = {
    "zstd": (unzstd, zstd.compress),
    "lz4": (unlz4, lz4.frame.compress),
    "bz2": (unbz2, bz2.compress),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_unpacking_is_bounded(kind: str) -> None:
    unpack, pack = PACKERS[kind]
    packed = pack(bytes(100_000))
    assert unpack(packed) == unpack(packed, 100_000) == bytes(100_000)
    with pytest.raises(DataError, match="more than"):
        unpack(packed, 99_999)
    for damaged in (packed[:-5], b"", b"nothing", packed[:3] + b"\xff" + packed[4:]):
        with pytest.raises(DataError):
            unpack(damaged)


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_packed_to_next_to_nothing_is_bounded_closer(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack, pack = PACKERS[kind]
    monkeypatch.setattr(compression, "_PLAUSIBLE_BYTES", 50_000)
    monkeypatch.setattr(compression, "_RATIO", 5)
    assert len(unpack(pack(random.Random(0).randbytes(100_000)))) == 100_000
    with pytest.raises(DataError, match="more than"):
        unpack(pack(bytes(100_000)))


def test_zstd_that_says_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(compression, "_unpacked")
    with pytest.raises(DataError, match="more than"):
        unzstd(zstd.compress(bytes(100_000)), 99_999)


def test_zstd_that_does_not_say_its_size_is_bounded() -> None:
    packer = zstd.ZstdCompressor()
    packed = packer.compress(bytes(100_000)) + packer.flush()
    assert zstd.get_frame_info(packed).decompressed_size is None
    with pytest.raises(DataError, match="more than"):
        unzstd(packed, 99_999)


def test_a_message_that_unpacks_to_too_much_is_damaged_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Mcap()
    for size in (0, 100_000, 0):
        file.add("/image", zstd.compress(encode(IMAGE) + bytes(size)))
    monkeypatch.setattr(unzstd, "__defaults__", (50_000,))
    with BagReader(file.write(tmp_path / "bag.mcap")) as reader:
        first, second, third = reader.messages()
        assert (second.damage, second.data) == (
            "compressed messages unpack to more than 0 MiB",
            b"",
        )
        with pytest.raises(DataError, match=r"/image at .*: compressed messages unpack to more"):
            reader.decode(second)
        for message in (first, third):
            assert not message.damage
            assert_same(IMAGE, reader.decode(message))


@pytest.mark.parametrize("size", [2**20, 2**40])
def test_chunks_are_unpacked_to_no_more_than_is_believable(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk may claim any size."""
    packed = zstd.compress(bytes(2**20))
    chunk = struct.pack("<QQQI", STAMP, STAMP, size, 0) + text("zstd")
    content = (
        MAGIC
        + record(1, text("ros2") + text(""))
        + record(6, chunk + struct.pack("<Q", len(packed)) + packed)
    )
    path = tmp_path / "bag.mcap"
    path.write_bytes(content + record(2, struct.pack("<QQI", 0, 0, 0)) + MAGIC)
    monkeypatch.setattr(scan_mcap, "MAX_BYTES", 2**19)
    with pytest.raises(DataError, match="unpack to more than 0 MiB") as error:
        BagReader(path)
    assert str(path) in str(error.value)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("bags") / "small")


def compressed_bag(bag: Path, folder: Path) -> Path:
    """As `ros2 bag record --compression-mode file` writes it."""
    folder.mkdir()
    (file,) = bag.glob("*.mcap")
    (folder / f"{file.name}.zstd").write_bytes(zstd.compress(file.read_bytes()))
    metadata = (bag / "metadata.yaml").read_text()
    metadata = metadata.replace("  - small.mcap\n", "  - small.mcap.zstd\n")
    (folder / "metadata.yaml").write_text(metadata)
    return folder


def test_compressed_files_are_read(bag: Path, tmp_path: Path) -> None:
    assert len(read_all(compressed_bag(bag, tmp_path / "bag"))) == 6


def test_files_that_unpack_to_too_much_are_refused(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compressed_bag(bag, tmp_path / "bag")
    monkeypatch.setattr(compression, "_FILE_BYTES", 10)
    monkeypatch.setattr(compression, "_FILE_RATIO", 0)
    with pytest.raises(DataError, match="unpack to more than 0 MiB"):
        BagReader(path)
    file = next(path.glob("*.zstd"))
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{re.escape(str(file))}: .*cut off"):
        BagReader(path)


# What files say of themselves


def test_a_count_that_cannot_be_is_not_believed(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = bag.glob("*.mcap")
    data = bytearray(file.read_bytes())
    place = data.rindex(struct.pack("<BQ", 0x0B, 46 + 5 * 10)) + 9  # the statistics
    data[place : place + 8] = struct.pack("<Q", 10**15)
    path = tmp_path / "bag.mcap"
    path.write_bytes(data)
    assert len(read_all(path)) == 6
    assert "its index is damaged and isn't used: the counts in its index contradict" in caplog.text


@pytest.mark.parametrize(
    "edit", [("message_count: 6", "message_count: 999999999999"), ("version: 8", "version: [[1]]")]
)
def test_metadata_is_not_asked_for_more_than_the_files(
    bag: Path, tmp_path: Path, edit: tuple[str, str]
) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    assert edit[0] in metadata.read_text()
    metadata.write_text(metadata.read_text().replace(*edit))
    assert len(read_all(tmp_path / "bag")) == 6


def test_metadata_with_aliases_or_without_end_is_refused(
    bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    whole = metadata.read_text()
    merges = "".join(
        f"a{level}: &a{level}\n  <<: [{', '.join([f'*a{level - 1}'] * 9)}]\n"
        for level in range(1, 9)
    )
    metadata.write_text(f"a0: &a0 {{x: 1}}\n{merges}{whole}")
    with pytest.raises(
        DataError, match=r"metadata\.yaml: .*aliases are not read.*reindex"
    ) as error:
        BagReader(tmp_path / "bag")
    assert "\n" not in str(error.value)
    metadata.write_text(whole + f"# {'x' * 1_000_000}\n")  # as many topics make it
    assert len(read_all(tmp_path / "bag")) == 6
    monkeypatch.setattr(storage, "_METADATA_BYTES", 1_000_000)
    with pytest.raises(DataError, match=r"metadata\.yaml: .* larger than 1 MB"):
        BagReader(tmp_path / "bag")


def test_a_file_that_is_missing_is_named(bag: Path, tmp_path: Path) -> None:
    shutil.copytree(bag, tmp_path / "bag")
    metadata = tmp_path / "bag" / "metadata.yaml"
    names = "relative_file_paths:\n  - small.mcap"
    assert names in metadata.read_text()
    metadata.write_text(metadata.read_text().replace(names, f"{names}\n  - small_1.mcap"))
    with pytest.raises(DataError, match=r"files of the bag are missing: small_1\.mcap"):
        BagReader(tmp_path / "bag")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A bag in SQLite, of one image."""
    with Writer(tmp_path / "db", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        kind = "sensor_msgs/msg/Image"
        connection = writer.add_connection("/image", kind, typestore=typestore((kind,)))
        writer.write(connection, STAMP, encode(IMAGE))
    return next((tmp_path / "db").glob("*.db3"))


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_sqlite_with_topics_of_other_kinds(database: Path) -> None:
    change(
        database,
        "INSERT INTO topics VALUES(7, '/note', 'Note', 'json', '', '')",
        "INSERT INTO topics VALUES(8, '/odd', 'pkg/msg/Odd', 'cdr', '{[', '')",
        "INSERT INTO message_definitions VALUES(9, 'pkg/msg/Odd', 'unknown', '', '')",
        "INSERT INTO messages VALUES(9, 7, 5, '{}')",
        "INSERT INTO messages VALUES(10, 8, 5, 'no bytes')",
        "INSERT INTO messages VALUES(11, 8, 5, 1000000000)",
    )
    with BagReader(database) as reader:
        assert list(reader.topics) == ["/image", "/odd"]
        assert reader.foreign["/note"][1] == 1
        found = {(raw.topic, raw.damage) for raw in reader.messages()}
        assert found == {("/image", ""), ("/odd", "a message isn't bytes")}


def test_a_blob_that_a_database_makes_up_is_bounded(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_sqlite, "MAX_BYTES", 10_000)
    change(
        database,
        "DROP TABLE messages",
        "CREATE TABLE messages(id INTEGER, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB GENERATED ALWAYS AS (zeroblob(20000)))",
        "INSERT INTO messages(id, topic_id, timestamp) VALUES(1, 1, 1)",
    )
    with pytest.raises(DataError, match="too big"):
        read_all(database)


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE messages RENAME TO m2",
         "CREATE VIEW messages AS SELECT id, topic_id, timestamp, zeroblob(999999999) AS data "
         "FROM m2"],
        ["UPDATE messages SET timestamp = 'yesterday'"],
        ["DROP TABLE topics"],
    ],
    ids=["view", "stamp", "no topics"],
)  # fmt: skip
def test_databases_that_mean_ill(database: Path, statements: list[str]) -> None:
    change(database, *statements)
    with pytest.raises(DataError) as error:
        read_all(database)
    assert str(database) in str(error.value)
    assert "\n" not in str(error.value)


def test_ros1_definitions_of_other_topics_cost_nothing(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    string = store.types["std_msgs/msg/String"]
    with Ros1Writer(tmp_path / "old.bag") as writer:
        for topic in ("/bad", "/good"):
            connection = writer.add_connection(topic, string.__msgtype__, typestore=store)
            writer.write(connection, 1, store.serialize_ros1(string(topic), string.__msgtype__))
    data = (tmp_path / "old.bag").read_bytes()
    place = data.rindex(b"topic=/bad")
    definition = data.index(b"string data", place)
    data = data[:definition] + b"string[9999" + data[definition + 11 :]
    (tmp_path / "old.bag").write_bytes(data)
    with BagReader(tmp_path / "old.bag") as reader:
        assert [message.topic for message in reader.messages()] == ["/good"] or reader.foreign
