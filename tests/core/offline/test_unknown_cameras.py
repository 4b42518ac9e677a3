"""Photos, videos and folders of cameras that nobody calibrated: where they are, what is said."""

import logging
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base as ExifTag
from seeing_detector import SeeingDetector, picture

from kd3d_core.errors import DataError
from kd3d_core.frames import FrameResult
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.ground import up_in_camera
from kd3d_core.geometry.virtual_frame import (
    KITTI_LIDAR_HEIGHT,
    camera_height,
    camera_pitch_deg,
    level_lidar_from_camera,
    virtual_lidar_from_camera,
)
from kd3d_core.offline.inputs import InputSettings, find_source
from kd3d_core.offline.run import Outcome, detect_frames
from kd3d_core.offline.sinks import Sink
from kd3d_core.offline.source import Source
from kd3d_core.offline.store import ResultStore
from kd3d_core.runtime.detections import Detections

ALL = InputSettings(slice(None))


def tilted(height_m: float, pitch_deg: float, roll_deg: float = 0.0) -> np.ndarray:
    return level_lidar_from_camera(up_in_camera(pitch_deg, roll_deg), height_m)


class GroundDetector(SeeingDetector):
    """Sees the road where it is, however the camera is said to stand; `pose` is the truth."""

    def __init__(self, *poses: np.ndarray) -> None:
        super().__init__()
        self.poses = list(poses)

    def __call__(self, image: np.ndarray, camera: PinholeCamera) -> Detections:
        found = super().__call__(image, camera)
        rng = np.random.default_rng(0)
        road = np.column_stack([rng.uniform(3, 30, 2000), rng.uniform(-6, 6, 2000)])
        road = np.column_stack([road, np.full(2000, -KITTI_LIDAR_HEIGHT), np.ones(2000)])
        pose = self.poses[min(len(self.calls), len(self.poses)) - 1]
        seen = road @ np.linalg.inv(pose).T @ camera.lidar_from_camera.T
        return replace(found, points=seen.astype(np.float32))


class Collector(Sink):
    def __init__(self) -> None:
        self.results: list[FrameResult] = []
        self.left_out: list[tuple[str, str]] = []

    def add(self, result: FrameResult) -> None:
        self.results.append(result)

    def leave_out(self, name: str, reason: str) -> None:
        self.left_out.append((name, reason))

    def __exit__(self, kind, error, trace) -> None:
        pass


def save(path: Path, brightness: int, size: tuple[int, int] = (126, 44), **notes: object) -> None:
    exif = Image.Exif()
    for name, value in notes.items():
        place = exif if name == "Orientation" else exif.get_ifd(ExifTag.ExifOffset)
        place[ExifTag[name]] = value
    Image.fromarray(picture(brightness, *size)).save(path, exif=exif)


def save_video(path: Path, count: int) -> None:
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 25.0, (126, 44))
    for number in range(count):
        writer.write(picture(10 * number % 200))
    writer.release()


def detect(
    source: Source, detector: SeeingDetector, store: ResultStore | None = None
) -> tuple[Outcome, Collector]:
    collector = Collector()
    outcome = detect_frames(source, detector, store, [collector], score_threshold=0)
    return outcome, collector


def test_photos_of_mixed_sizes_each_with_its_own_lens(tmp_path: Path, caplog) -> None:
    save(tmp_path / "a.jpg", 10, FocalLengthIn35mmFilm=28)
    save(tmp_path / "b.jpg", 20, (80, 60), FocalLengthIn35mmFilm=50, Orientation=6)
    save(tmp_path / "c.png", 30, (60, 80))
    source = find_source([str(tmp_path)], ALL)
    with caplog.at_level(logging.INFO):
        outcome, collector = detect(source, GroundDetector(virtual_lidar_from_camera(1.65)))
    assert (outcome.detected, outcome.bad) == (3, ())
    a, b, c = (result.frame for result in collector.results)
    assert (a.camera.width, a.camera.height) == (126, 44)
    assert a.camera.focal_px == pytest.approx(28 / 43.267 * np.hypot(126, 44), rel=1e-3)
    assert a.camera.projection[:2, 2].tolist() == [62.5, 21.5]
    assert b.image.shape == (80, 60, 3)
    assert (b.camera.width, b.camera.height) == (60, 80)
    assert b.camera.focal_px == pytest.approx(50 / 43.267 * 100, rel=1e-3)
    assert c.camera.focal_px == pytest.approx(40 / np.tan(np.radians(30)))
    assert "EXIF (28 mm" in a.notes[0]
    assert "GUESSED" in c.notes[0]
    assert not a.doubt
    assert "is a guess" in c.doubt
    assert collector.results[2].scene.notes == c.notes
    warnings = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert [text for text in warnings if "guess" in text] == [f"c: {c.doubt}"]
    assert any("a: focal length" in each.message for each in caplog.records)


def test_each_photo_is_placed_by_its_own_ground(tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        save(tmp_path / f"{name}.png", 10 + index)
    low, high = tilted(0.9, 4), tilted(2.0, -3, 5)
    # The detector is asked twice of each photo: as it may stand, and as it stands.
    detector = GroundDetector(low, low, high, high)
    store = ResultStore(tmp_path / "kept", "model")
    settings = replace(ALL, hfov_deg=70)
    _, collector = detect(find_source([str(tmp_path)], settings), detector, store)
    for result, pose in zip(collector.results, (low, high), strict=True):
        np.testing.assert_allclose(result.frame.camera.lidar_from_camera, pose, atol=5e-3)
        extrinsics = result.frame.extrinsics
        assert extrinsics is not None
        np.testing.assert_array_equal(
            extrinsics.parent_from_child, result.frame.camera.lidar_from_camera
        )
        ground = result.detections.points[:, 2]
        np.testing.assert_allclose(ground, -KITTI_LIDAR_HEIGHT, atol=0.05)
    assert collector.results[0].frame.notes[1] == "camera 0.90 m high, 4.0 deg down: estimated"
    assert collector.results[1].frame.notes[1] == "camera 2.00 m high, 3.0 deg up: estimated"
    # All of it is kept: nothing is asked again.
    again = GroundDetector(low)
    outcome, repeated = detect(find_source([str(tmp_path)], settings), again, store)
    assert (outcome.kept, again.calls) == (2, [])
    assert repeated.results[1].frame.notes == collector.results[1].frame.notes


def test_what_a_person_says_counts_and_is_compared(tmp_path: Path, caplog) -> None:
    save(tmp_path / "a.png", 10)
    truth = tilted(1.6, 4)

    def camera(**settings: float) -> tuple[float, float, str, int]:
        caplog.clear()
        detector = GroundDetector(truth)
        source = find_source([str(tmp_path)], replace(ALL, hfov_deg=70, **settings))
        frame = detect(source, detector)[1].results[0].frame
        pose = frame.camera.lidar_from_camera
        return camera_height(pose), camera_pitch_deg(pose), frame.notes[1], len(detector.calls)

    height, pitch, note, _ = camera(height_m=0.8)
    assert (height, pitch) == (pytest.approx(0.8), pytest.approx(4, abs=0.1))
    assert note == "camera 0.80 m high, 4.0 deg down: partly estimated"
    assert "the ground 1.60 m below the camera, and --camera-height says 0.8" in caplog.text
    assert "2.0 times too long" in caplog.text
    height, pitch, note, _ = camera(pitch_deg=0.0)
    assert (height, pitch) == (pytest.approx(1.6, abs=0.02), 0)
    assert "times too" not in caplog.text
    height, pitch, note, asked = camera(height_m=1.2, pitch_deg=-2.0)
    assert (height, pitch) == (pytest.approx(1.2), pytest.approx(-2))
    assert (note, asked) == ("camera 1.20 m high, 2.0 deg up: as given", 1)


def test_where_no_ground_is_seen_the_usual_place_is_assumed(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    source = find_source([str(tmp_path)], replace(ALL, hfov_deg=70))
    frame = detect(source, SeeingDetector())[1].results[0].frame
    np.testing.assert_array_equal(frame.camera.lidar_from_camera, virtual_lidar_from_camera(1.65))
    assert frame.notes[1] == "camera 1.65 m high, 0.0 deg down: assumed, no ground found"


def test_a_video_is_of_one_camera_that_is_placed_by_its_first_frames(tmp_path: Path) -> None:
    save_video(tmp_path / "drive.mp4", 14)
    truth, nod = tilted(1.3, 2), tilted(1.3, 9)
    detector = GroundDetector(truth, truth, truth, truth, nod, nod, truth)
    source = find_source([str(tmp_path / "drive.mp4")], replace(ALL, hfov_deg=70))
    assert (source.count, source.rate_hz) == (14, 25)
    outcome, collector = detect(source, detector)
    assert (outcome.detected, len(detector.calls)) == (14, 14 + 9)
    names = [result.frame.name for result in collector.results]
    assert names == [f"drive_{number:06d}" for number in range(14)]
    assert all(name in source.names for name in names)
    assert "other_000001" not in source.names
    cameras = [result.frame.camera for result in collector.results]
    assert len({id(camera) for camera in cameras[8:]}) == 1
    assert camera_pitch_deg(cameras[-1].lidar_from_camera) == pytest.approx(2, abs=0.1)
    stamps = np.array([result.frame.stamp_ns for result in collector.results])
    np.testing.assert_allclose(np.diff(stamps), 40e6, atol=1e6)


def test_every_third_frame_of_a_video_and_a_calibration(tmp_path: Path) -> None:
    save_video(tmp_path / "drive.mp4", 10)
    settings = replace(ALL, wanted=slice(1, None, 3), intrinsics=(72.0, 72.0, 63.0, 22.0))
    source = find_source([str(tmp_path / "drive.mp4")], settings)
    assert (source.count, source.rate_hz, source.place) == (3, 25 / 3, None)
    _, collector = detect(source, SeeingDetector())
    names = [result.frame.name for result in collector.results]
    assert names == ["drive_000001", "drive_000004", "drive_000007"]
    assert collector.results[0].frame.camera.focal_px == 72
    assert not collector.results[0].frame.notes


def test_frames_of_a_video_are_not_counted_from_its_end(tmp_path: Path) -> None:
    save_video(tmp_path / "drive.mp4", 3)
    for wanted in (slice(-1, None), slice(None, -1)):
        with pytest.raises(DataError, match="counted from its beginning"):
            find_source([str(tmp_path / "drive.mp4")], replace(ALL, wanted=wanted))


def test_a_video_that_is_cut_off_ends_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "drive.mkv"
    save_video(path, 60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = find_source([str(path)], replace(ALL, hfov_deg=70))
    outcome, collector = detect(source, SeeingDetector())
    assert 10 < outcome.detected < 50
    (bad,) = outcome.bad
    assert "is cut off" in bad.reason
    assert collector.left_out == [(bad.name, bad.reason)]
    assert bad.name == f"drive_{outcome.detected:06d}"


def test_videos_stand_alone(tmp_path: Path) -> None:
    save_video(tmp_path / "a.mp4", 3)
    save(tmp_path / "a.png", 10)
    with pytest.raises(Exception, match=r"a\.mp4 is a video or camera: give it as the only input"):
        find_source([str(tmp_path / "a.png"), str(tmp_path / "a.mp4")], ALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="give videos as files"):
        find_source([str(tmp_path / "empty")], ALL)


def test_a_folder_that_grows_until_ctrl_c(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:-20])  # is being written
    seen: list[str] = []

    class Camera(Collector):
        def add(self, result: FrameResult) -> None:
            seen.append(result.frame.name)
            if seen == ["a"]:
                threading.Thread(target=finish).start()
            elif seen == ["a", "b"]:
                save(tmp_path / "c.png", 30)
            else:
                signal.raise_signal(signal.SIGINT)

    def finish() -> None:
        (tmp_path / "b.png").write_bytes(whole)

    source = find_source([str(tmp_path)], replace(ALL, watch=True, hfov_deg=70))
    assert (source.count, "anything" in source.names) == (None, True)
    began = time.monotonic()
    outcome = detect_frames(source, SeeingDetector(), None, [Camera()])
    assert outcome.interrupted
    assert seen == ["a", "b", "c"]
    assert time.monotonic() - began < 4  # "b" wasn't taken for broken
