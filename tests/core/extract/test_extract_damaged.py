"""Recordings that are cut off, or have a byte that isn't what it was."""

import random
from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from small_recording import drive, write

from kd3d_core.data.bag import BagReader, typestore
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.errors import Kd3dError
from kd3d_core.extract import report
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.run import extract
from kd3d_core.extract.summary import ExtractReport

FRAMES = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A recording as an MCAP and as an SQLite file, by ending."""
    folder = tmp_path_factory.mktemp("recordings")
    bag = write(folder / "bag", drive(FRAMES))
    with (
        BagReader(bag) as reader,
        Ros2Writer(folder / "sql", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer,
    ):
        connections = {
            topic.name: writer.add_connection(
                topic.name, topic.type, typestore=typestore((topic.type,))
            )
            for topic in reader.topics.values()
        }
        for raw in reader.messages():
            writer.write(connections[raw.topic], raw.stamp_ns, raw.data)
    return {
        ending: next((folder / name).glob(f"*{ending}")).read_bytes()
        for ending, name in ((".mcap", "bag"), (".db3", "sql"))
    }


def extracted(data: bytes, ending: str, folder: Path) -> tuple[ExtractReport | None, str]:
    """The report, or in a line why there is none."""
    bag = folder / f"recording{ending}"
    bag.write_bytes(data)
    try:
        return extract([bag], folder / "out", ExtractConfig()).report, ""
    except Kd3dError as error:
        reason = str(error)
    assert "\n" not in reason
    return None, reason


def assert_whole(out: Path, result: ExtractReport) -> None:
    """Each frame has all of its files, and nothing else is there."""
    training = out / "training"
    names = {part.name: {path.stem for path in part.iterdir()} for part in training.iterdir()}
    assert names["image_2"] == names["calib"]
    (recording,) = result.recordings
    if any("there is no LiDAR" in doubt for doubt in recording.doubts):
        assert "velodyne" not in names  # none of its clouds is in front of the damage
    else:
        assert names["velodyne"] == names["image_2"]
    assert names.get("label_2", set()) <= names["image_2"]
    assert not list(out.rglob("*.part"))
    for frame in KittiDataset(out):
        frame.image(), frame.camera()
        if "velodyne" in names:
            frame.points()


def spoilt(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    if rng.random() < 0.5:
        return data[:place]
    changed = bytearray(data)
    changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def spoil(
    files: dict[str, bytes], folder: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing a page takes longer than all else.
    monkeypatch.setattr(report, "write_page", lambda path, page: None)
    rng = random.Random(count)
    found = 0
    for number in range(count):
        ending = rng.choice(list(files))
        work = folder / str(number)
        work.mkdir()
        result, _ = extracted(spoilt(files[ending], rng), ending, work)
        if result is None or not result.frame_count:
            assert not (work / "out" / "training").exists()
        else:
            found += 1
            assert_whole(work / "out", result)
            check_accounts(work / f"recording{ending}", result)
    assert found > count / 4


def check_accounts(bag: Path, result: ExtractReport) -> None:
    (recording,) = result.recordings
    (camera,) = recording.cameras
    with BagReader(bag) as reader:
        for _ in reader.messages():  # damage in the middle is only met then
            pass
        counts = {topic.name: topic.count for topic in reader.topics.values()}
    totals = {name: tally.total for name, tally in {**camera.tallies, **recording.others}.items()}
    assert totals == counts


def test_damage_never_makes_half_a_frame(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(files, tmp_path, 16, monkeypatch)


@pytest.mark.slow
def test_damage_anywhere_never_makes_half_a_frame(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(files, tmp_path, 500, monkeypatch)


def test_what_was_recorded_before_a_crash_is_extracted(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    # rosbags closes a chunk at 1 MiB, so that a small file has one: it is cut in front of its end.
    data = files[".mcap"]
    result, reason = extracted(data[: len(data) * 2 // 3], ".mcap", tmp_path)
    assert result is not None, reason
    (recording,) = result.recordings
    assert "recording.mcap" in recording.stopped
    assert 0 < len(recording.cameras[0].frames) < FRAMES
    assert_whole(tmp_path / "out", result)
