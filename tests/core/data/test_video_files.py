"""Videos: every frame once with the container's time, and what is damaged is said."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd3d_core.data.video import Video, VideoFrame, is_live, public_name
from kd3d_core.errors import DataError

COUNT, RATE_HZ, SIZE = 45, 30.0, (160, 120)
CODECS = {"mp4": "mp4v", "mkv": "mp4v", "mov": "mp4v", "avi": "MJPG"}


def write_video(path: Path, count: int = COUNT) -> Path:
    """A video whose frames have their number in six bits, white for 1; its left half is red."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*CODECS[path.suffix[1:]]), RATE_HZ, SIZE
    )
    assert writer.isOpened()
    for number in range(count):
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        image[:, :64, 2] = 200  # OpenCV's order is BGR
        for bit in range(6):
            image[:, 64 + 16 * bit : 80 + 16 * bit] = 255 * (number >> bit & 1)
        writer.write(image)
    writer.release()
    return path


def number_in(image: np.ndarray) -> int:
    return sum(int(image[60, 72 + 16 * bit].mean() > 128) << bit for bit in range(6))


def read(path: Path, wanted: slice = slice(None)) -> list[VideoFrame]:
    with Video(str(path)) as video:
        return list(video.frames(wanted))


@pytest.mark.parametrize("ending", list(CODECS))
def test_all_frames_in_their_order_with_their_times(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"a.{ending}")
    with Video(str(path)) as video:
        assert (video.width, video.height, video.rate_hz) == (*SIZE, pytest.approx(RATE_HZ))
        assert video.seconds == pytest.approx(COUNT / RATE_HZ, abs=0.05)
        assert video.pixel_aspect == 1
        frames = list(video.frames())
    assert [frame.number for frame in frames] == list(range(COUNT))
    for frame in frames:
        assert frame.image.shape == (SIZE[1], SIZE[0], 3)
        assert number_in(frame.image) == frame.number
        assert frame.stamp_ns == pytest.approx(frame.number / RATE_HZ * 1e9, abs=2e6)
    red, green, blue = np.median(frames[-1].image[:, :60], (0, 1))
    assert red > 150
    assert max(green, blue) < 60


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (slice(5, 9), [5, 6, 7, 8]),
        (slice(None, None, 20), [0, 20, 40]),
        (slice(40, 99, 3), [40, 43]),
        (slice(99, None), []),
    ],
)
def test_some_frames_keep_their_numbers(tmp_path: Path, wanted: slice, numbers: list[int]) -> None:
    frames = read(write_video(tmp_path / "a.mp4"), wanted)
    assert [frame.number for frame in frames] == numbers
    for frame in frames:
        assert number_in(frame.image) == frame.number


def collected(path: Path) -> tuple[int, str]:
    """How many frames there are, and what is said at the end."""
    count = 0
    with Video(str(path)) as video:
        try:
            for _ in video.frames():
                count += 1
        except DataError as error:
            return count, str(error)
    return count, ""


@pytest.mark.parametrize("ending", ["mkv", "avi"])
def test_a_video_that_is_cut_off_is_read_up_to_there(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"a.{ending}", 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count, said = collected(path)
    assert 15 < count < 45
    assert f"({count} frames)" in said
    assert "says it has 2.0 s: it is cut off or damaged" in said


def test_frames_behind_damage_are_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 60)
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 900] = bytes(np.random.default_rng(0).integers(0, 256, 900, np.uint8))
    path.write_bytes(data)
    frames, said = [], ""
    with Video(str(path)) as video:
        try:
            frames.extend(video.frames())
        except DataError as error:
            said = str(error)
    assert "is damaged" in said
    assert f"{len(frames)} frames can be read" in said
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] > 1.9e9
    assert 40 < len(frames) < 60


def without_end(path: Path) -> None:
    path.write_bytes(write_video(path).read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"no video" * 100), "no video that FFmpeg knows"),
        (without_end, "no video that FFmpeg knows, or cut off: MP4 and MOV keep at their end"),
    ],
)
def test_what_can_not_be_opened_is_one_line(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path / "a.mp4")
    code = f"from kd3d_core.data.video import Video; Video({str(tmp_path / 'a.mp4')!r})"
    # A process of its own: what FFmpeg says is decided when it is first used.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line and not line.startswith((" ", "Tr"))]
    assert len(said) == 1, done.stderr
    assert reason in said[0]


def test_a_video_that_was_taken_upright_is_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 16
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, SIZE[1] << 16, 0, 1 << 30)
    data[matrix : matrix + 36] = turned  # by 90 degrees clockwise, as phones write it
    path.write_bytes(data)
    with Video(str(path)) as video:
        assert (video.width, video.height) == SIZE[::-1]
        frame = next(video.frames())
    assert frame.image.shape == (SIZE[0], SIZE[1], 3)
    red, green, _ = frame.image[30, 60]  # what was left is at the top now
    assert red > 150
    assert green < 60
    assert max(frame.image[100:, 60].ravel()) < 60


def test_of_a_stream_always_the_newest(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi")
    with Video(str(path)) as video:
        newest = video.newest_frames()
        first = next(newest)
        # The thread goes on reading; when it has read all, the last is what is new.
        rest = list(newest)
    numbers = [first.number, *(frame.number for frame in rest)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == COUNT - 1
    assert number_in(rest[-1].image) == COUNT - 1


def test_cameras_and_addresses_are_no_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_live("0")
    assert is_live("RTSP://host/a")
    assert not is_live("a.mp4")
    Path("0").write_bytes(b"")
    assert not is_live("0")
    with pytest.raises(DataError, match=r"there is no camera /dev/video77$"):
        Video("/dev/video77")


def test_passwords_are_not_shown() -> None:
    assert public_name("http://u:p@h:8080/a/b.mjpg?key=1") == "http://h:8080/a/b.mjpg"
    assert public_name("rtsp://h") == "rtsp://h"
    assert public_name("/a/b@c.mp4") == "/a/b@c.mp4"
    with pytest.raises(DataError) as caught:
        Video("http://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(caught.value)
