"""Writing bags: whole or not at all, and what is kept of a recording."""

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rosbags.rosbag2 import Writer as Ros2Writer
from sample_messages import IMAGE, MESSAGES, STAMP, write_bag

from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.errors import DataError
from kd3d_core.messages.qos import LATCHED, QosProfile


def test_metadata_is_what_rosbag2_reads_from_humble_on(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "small")
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


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        with pytest.raises(DataError, match=r"nowhere_msgs/msg/Thing is not defined"):
            writer.add_topic("/thing", "nowhere_msgs/msg/Thing")
        writer.add_topic("/image", "sensor_msgs/msg/Image")
        writer.write("/image", STAMP, IMAGE)


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
