"""Recordings that end early or are damaged: what lies before the damage comes out whole."""

import random
import shutil
import sqlite3
import struct
import sys
from binascii import crc32
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_typestore

from kd3d_core.data.bag import BagReader, storage, typestore
from kd3d_core.errors import DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KIND = "std_msgs/msg/String"
STRINGS = typestore((KIND,))
ROS1 = get_typestore(Stores.ROS1_NOETIC)
START = 10**18
COUNT = 40
MAGIC = b"\x89MCAP0\r\n"


def words(number: int) -> str:
    """Of a message: unlike those of all others, and not compressible, so that sizes are real."""
    return random.Random(number).randbytes(30 + 20 * (number % 7)).hex()


def cdr(number: int) -> bytes:
    return bytes(STRINGS.serialize_cdr(STRINGS.types[KIND](words(number)), KIND))


MESSAGES = [(START + number * 10**7, cdr(number)) for number in range(COUNT)]


# Files


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def record(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "zstd": zstd.compress,
    "lz4": lz4.frame.compress,
}


def chunked_mcap(path: Path, compression: str = "zstd", per_chunk: int = 4) -> list[int]:
    """An MCAP file with checksums, as rosbag2 writes it, without index; where its chunks end."""
    definition = STRINGS.generate_msgdef(KIND, 2)[0]
    defined = record(3, struct.pack("<H", 1) + text(KIND) + text("ros2msg") + text(definition))
    defined += record(4, struct.pack("<HH", 7, 1) + text("/text") + text("cdr") + text(b""))
    content = MAGIC + record(1, text("ros2") + text("test"))
    ends = []
    for first in range(0, COUNT, per_chunk):
        inner = b"" if first else defined
        stamps = []
        for number in range(first, first + per_chunk):
            stamp, data = MESSAGES[number]
            stamps.append(stamp)
            inner += record(5, struct.pack("<HIQQ", 7, number, stamp, stamp) + data)
        packed = PACKERS[compression](inner)
        head = struct.pack("<QQQI", stamps[0], stamps[-1], len(inner), crc32(inner))
        content += record(6, head + text(compression) + struct.pack("<Q", len(packed)) + packed)
        ends.append(len(content))
    content += record(15, bytes(4)) + record(2, bytes(20)) + MAGIC
    path.write_bytes(content)
    return ends


def write_mcap(path: Path) -> None:
    """As rosbags writes it: one chunk without checksum, then its index."""
    _write_ros2(path, StoragePlugin.MCAP)


def write_db3(path: Path) -> None:
    _write_ros2(path, StoragePlugin.SQLITE3)


def _write_ros2(path: Path, plugin: StoragePlugin) -> None:
    folder = path.with_name(f"{path.stem}-folder")
    with Ros2Writer(folder, version=8, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/text", KIND, typestore=STRINGS)
        for stamp, data in MESSAGES:
            writer.write(connection, stamp, data)
    shutil.move(next(folder.glob(f"*{path.suffix}")), path)


def write_bag(path: Path) -> None:
    with Ros1Writer(path) as writer:
        writer.chunk_threshold = 2000
        connection = writer.add_connection("/text", KIND, typestore=ROS1)
        for number, (stamp, _) in enumerate(MESSAGES):
            data = ROS1.serialize_ros1(ROS1.types[KIND](words(number)), KIND)
            writer.write(connection, stamp, data)


WRITERS: dict[str, Callable[[Path], object]] = {
    "mcap": write_mcap,
    "chunks": chunked_mcap,
    "db3": write_db3,
    "bag": write_bag,
}


def file_of(kind: str, folder: Path) -> Path:
    path = folder / f"recording.{'mcap' if kind == 'chunks' else kind}"
    WRITERS[kind](path)
    return path


def read(path: Path) -> tuple[list[tuple[int, bytes]], str | None]:
    with BagReader(path) as reader:
        found = [(raw.stamp_ns, raw.data) for raw in reader.messages()]
        counted = sum(topic.count for topic in reader.topics.values())
        assert counted == len(found) or reader.stopped
        return found, reader.stopped


@pytest.mark.parametrize("kind", WRITERS)
def test_sound_files_are_read_by_their_index(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(kind, tmp_path)
    if kind != "chunks":
        monkeypatch.delattr(storage, "scan_once")
    assert read(path) == (MESSAGES, None)
    assert not caplog.text


# Endings


@pytest.mark.parametrize("compression", PACKERS)
def test_a_file_without_index_is_read_to_its_end(compression: str, tmp_path: Path) -> None:
    chunked_mcap(tmp_path / "a.mcap", compression)
    assert read(tmp_path / "a.mcap") == (MESSAGES, None)


@pytest.mark.parametrize("compression", PACKERS)
def test_chunks_before_the_cut_come_out(compression: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    ends = chunked_mcap(path, compression)
    data = path.read_bytes()
    for number, end in enumerate(ends, 1):
        path.write_bytes(data[:end])
        found, stopped = read(path)
        assert found == MESSAGES[: 4 * number]
        assert stopped == (
            f"{path}: it is read only up to byte {end} of {end}: it ends without MCAP's footer"
        )


@pytest.mark.parametrize("kind", ["mcap", "bag"])
def test_every_message_before_a_cut_comes_out(kind: str, tmp_path: Path) -> None:
    path = file_of(kind, tmp_path)
    data = path.read_bytes()
    ends = [data.index(words(number).encode()) + len(words(number)) for number in range(COUNT)]
    for cut in random.Random(0).sample(range(ends[0] + 1, len(data)), 60):
        path.write_bytes(data[:cut])
        found, stopped = read(path)
        whole = sum(end < cut for end in ends)  # a string ends in a zero byte
        assert found == MESSAGES[:whole]
        if stopped is None:  # it is cut behind MCAP's mark of the data's end
            assert kind == "mcap"
            assert whole == COUNT
            continue
        assert str(path) in stopped
        assert f"of {cut}" in stopped


def test_a_database_that_is_cut_off_gives_its_first_rows(tmp_path: Path) -> None:
    path = file_of("db3", tmp_path)
    many = [(START + number, random.Random(number).randbytes(3000)) for number in range(200)]
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM messages")
        database.executemany("INSERT INTO messages VALUES(NULL, 1, ?, ?)", many)
    database.close()
    data = path.read_bytes()
    for share in (0.3, 0.5, 0.7, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        found, stopped = read(path)
        assert found == many[: len(found)]
        assert (share - 0.2) * len(many) < len(found) < (share + 0.1) * len(many)
        assert stopped is not None
        assert f"read only up to behind message {len(found)}: " in stopped


def test_a_database_without_an_index_of_stamps(tmp_path: Path) -> None:
    path = file_of("db3", tmp_path)
    with sqlite3.connect(path) as database:
        for (name,) in list(
            database.execute("SELECT name FROM sqlite_master WHERE type='index' AND sql NOT NULL")
        ):
            database.execute(f"DROP INDEX {name}")
        database.execute("UPDATE messages SET timestamp = timestamp + 95000000 WHERE id = 1")
    database.close()
    found, stopped = read(path)
    late = (MESSAGES[0][0] + 95_000_000, MESSAGES[0][1])
    assert found == sorted([late, *MESSAGES[1:]])
    assert stopped is None


def test_a_write_ahead_log_is_read(tmp_path: Path) -> None:
    path = file_of("db3", tmp_path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("INSERT INTO messages VALUES(99, 1, ?, ?)", (START + 10**9, b"\0\1\0\0rest"))
    database.commit()
    (tmp_path / "crashed").mkdir()
    for file in (path, path.with_name(f"{path.name}-wal")):
        shutil.copy(file, tmp_path / "crashed")
    database.close()
    found, stopped = read(tmp_path / "crashed" / path.name)
    assert found == [*MESSAGES, (START + 10**9, b"\0\1\0\0rest")]
    assert stopped is None


def test_a_ros1_bag_that_was_still_recorded(tmp_path: Path) -> None:
    path = file_of("bag", tmp_path)
    data = path.read_bytes()
    place = data.index(b"index_pos=") + 10
    unindexed = data[:place] + bytes(8) + data[place + 8 :]
    active = tmp_path / "recording.bag.active"
    active.write_bytes(unindexed)
    found, stopped = read(active)
    assert found == MESSAGES
    assert stopped is not None
    assert "ends without an index" in stopped
    # The sizes of the chunk that is being written are filled in when it is complete.
    head = data.rindex(b"compression=none")
    start = head + len(b"compression=none")
    size = data.index(b"size=", head - 40) + 5
    open_chunk = unindexed[:size] + bytes(4) + unindexed[size + 4 : start]
    rest = unindexed[start : start + 4 + 1500]
    active.write_bytes(open_chunk + bytes(4) + rest[4:])
    again, stopped = read(active)
    assert again == MESSAGES[: len(again)]
    assert len(again) > len(MESSAGES) * 0.5
    assert stopped is not None
    assert "a chunk is cut off" in stopped


def test_messages_outside_of_chunks_in_any_order(tmp_path: Path) -> None:
    definition = STRINGS.generate_msgdef(KIND, 2)[0]
    content = MAGIC + record(1, text("ros2") + text("test"))
    content += record(3, struct.pack("<H", 1) + text(KIND) + text("ros2msg") + text(definition))
    content += record(4, struct.pack("<HH", 7, 1) + text("/text") + text("cdr") + text(b""))
    for number, (stamp, data) in enumerate(reversed(MESSAGES)):
        content += record(5, struct.pack("<HIQQ", 7, number, stamp, stamp) + data)
        if number % 9 == 0:
            content += record(9, b"attachment") + record(200, b"of an application's own")
    (tmp_path / "a.mcap").write_bytes(content + record(15, bytes(4)))
    with BagReader(tmp_path / "a.mcap") as reader:
        assert [(raw.stamp_ns, raw.data) for raw in reader.messages()] == MESSAGES
        some = list(reader.messages(start_ns=MESSAGES[3][0], stop_ns=MESSAGES[9][0]))
        assert [raw.stamp_ns for raw in some] == [stamp for stamp, _ in MESSAGES[3:9]]
        assert reader.stopped is None


# Damage inside


def test_a_checksum_stops_before_its_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    ends = chunked_mcap(path, "")
    data = bytearray(path.read_bytes())
    data[ends[5] - 3] ^= 1
    path.write_bytes(data)
    found, stopped = read(path)
    assert found == MESSAGES[:20]
    assert stopped is not None
    assert "checksum" in stopped


def test_damage_behind_a_sound_index_is_found_while_reading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of("mcap", tmp_path)
    data = bytearray(path.read_bytes())
    start = data.index(MESSAGES[30][1]) - 22 - 8  # the length of its record
    data[start : start + 8] = struct.pack("<Q", 2**40)
    path.write_bytes(data)
    with BagReader(path) as reader:
        assert (reader.topics["/text"].count, reader.stopped) == (COUNT, None)
        assert [(raw.stamp_ns, raw.data) for raw in reader.messages()] == MESSAGES[:30]
        assert reader.stopped is not None
        assert "a record in a chunk is cut off" in reader.stopped
        assert reader.stopped in caplog.text
        again = list(reader.messages(start_ns=MESSAGES[20][0]))
        assert [raw.stamp_ns for raw in again] == [stamp for stamp, _ in MESSAGES[20:30]]


def test_a_stamp_that_its_index_does_not_know_is_said(tmp_path: Path) -> None:
    path = file_of("mcap", tmp_path)
    data = bytearray(path.read_bytes())
    start = data.index(MESSAGES[30][1]) - 16
    data[start : start + 8] = struct.pack("<Q", 5)
    path.write_bytes(data)
    found, stopped = read(path)
    assert found == [*MESSAGES[:30], *MESSAGES[31:]]
    assert stopped is not None
    assert "that its index doesn't know: some messages may be wrong or lacking" in stopped


@pytest.mark.parametrize("kind", ["chunk", "count"])
def test_a_wrong_index_is_not_used(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = file_of("mcap", tmp_path)
    data = bytearray(path.read_bytes())
    stamps = struct.pack("<QQ", MESSAGES[0][0], MESSAGES[-1][0])
    place = data.index(stamps, data.rindex(MESSAGES[-1][1]))
    if kind == "count":
        place = data.rindex(stamps) - 26  # in the statistics
    data[place] ^= 1
    path.write_bytes(data)
    assert read(path) == (MESSAGES, None)
    assert "its index is damaged and isn't used" in caplog.text


# Folders


def test_of_several_files_one_may_be_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    chunked_mcap(folder / "bag_0.mcap")
    (folder / "bag_1.mcap").write_bytes(b"")
    found, stopped = read(folder)
    assert found == MESSAGES
    assert stopped is not None
    assert "bag_1.mcap" in stopped


def test_a_folder_of_compressed_files_without_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    chunked_mcap(folder / "bag_0.mcap")
    data = (folder / "bag_0.mcap").read_bytes()
    (folder / "bag_0.mcap.zstd").write_bytes(zstd.compress(data)[:100])  # not finished
    assert read(folder) == (MESSAGES, None)
    (folder / "bag_0.mcap").unlink()
    (folder / "bag_0.mcap.zstd").write_bytes(zstd.compress(data))
    assert read(folder) == (MESSAGES, None)
    assert read(folder / "bag_0.mcap.zstd") == (MESSAGES, None)


def test_a_compressed_file_that_is_cut_off(tmp_path: Path) -> None:
    chunked_mcap(tmp_path / "a.mcap", "")
    data = (tmp_path / "a.mcap").read_bytes()
    path = tmp_path / "b.mcap.zstd"
    packed = zstd.compress(data)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match="cut off"):  # zstd gives whole blocks, of 128 KiB
        BagReader(path)
    packer = zstd.ZstdCompressor()
    packed = b"".join(
        packer.compress(data[start : start + 1000], mode=zstd.ZstdCompressor.FLUSH_BLOCK)
        for start in range(0, len(data), 1000)
    )
    path.write_bytes(packed[: len(packed) // 2])
    found, stopped = read(path)
    assert found == MESSAGES[: len(found)]
    assert len(found) > COUNT // 4
    assert stopped is not None
    assert stopped.startswith(f"{path}: ")


# Any damage


def spoilt(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    """Cut off somewhere, or a few bytes changed, and the first byte that is."""
    if rng.random() < 0.4:
        cut = rng.randrange(len(data))
        return data[:cut], cut
    broken = bytearray(data)
    places = [rng.randrange(len(data)) for _ in range(rng.randint(1, 4))]
    for place in places:
        broken[place] ^= rng.randrange(1, 256)
    return bytes(broken), min(places)


def check_damage(kind: str, tmp_path: Path, tries: int, seed: int) -> None:
    path = file_of(kind, tmp_path)
    original = path.read_bytes()
    ends = {}
    if kind in ("mcap", "bag"):
        ends = {n: original.index(words(n).encode()) + len(words(n)) + 1 for n in range(COUNT)}
    elif kind == "chunks":
        chunks = chunked_mcap(path)
        ends = {n: chunks[n // 4] for n in range(COUNT)}
    rng = random.Random(seed)
    given = 0
    for _ in range(tries):
        data, place = spoilt(original, rng)
        path.write_bytes(data)
        found, refusal = [], ""
        try:
            found, _ = read(path)
        except DataError as error:
            refusal = str(error)
        assert not refusal or refusal.startswith(str(path))
        assert "\n" not in refusal
        assert len(refusal) < 700
        before = [MESSAGES[number] for number, end in ends.items() if end <= place]
        assert found[: len(before)] == before
        given += len(found)
    assert given > tries  # not all was refused


@pytest.mark.parametrize("kind", WRITERS)
def test_damage_anywhere(kind: str, tmp_path: Path) -> None:
    check_damage(kind, tmp_path, 25, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_damage_in_500_places(kind: str, tmp_path: Path) -> None:
    check_damage(kind, tmp_path, 125, 2)
