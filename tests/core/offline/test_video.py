"""`--mp4`: what a browser plays, whole or not there, and pictures of one size."""

import logging
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browser_tab
from seeing_detector import SeeingDetector, picture

from kd3d_core.errors import DataError
from kd3d_core.frames import Frame, FrameResult
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.offline.video_sink import VideoSink, letterboxed


def result(brightness: int, width: int = 126, height: int = 44) -> FrameResult:
    image = picture(brightness, width, height)
    projection = np.array([[72.0, 0, width / 2, 0], [0, 72, height / 2, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, width, height, virtual_lidar_from_camera(1.65))
    frame = Frame(f"{brightness:06}", 0, image, camera)
    detector = SeeingDetector()
    return FrameResult(frame, detector(image, camera), detector.class_names, "lidar")


def write(path: Path, results: Iterable[FrameResult]) -> None:
    with VideoSink(path, 10.0) as sink:
        for each in results:
            sink.add(each)


def read(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    shown = []
    while (answer := video.read())[0]:
        shown.append(answer[1][..., ::-1])
    return shown


def test_the_video_shows_the_pictures(tmp_path: Path) -> None:
    results = [result(brightness) for brightness in (20, 60, 100, 140)]
    write(tmp_path / "new" / "all.mp4", results)
    shown = read(tmp_path / "new" / "all.mp4")
    assert len(shown) == 4
    for image, each in zip(shown, results, strict=True):
        assert image.shape == each.picture.shape
        difference = np.abs(image.astype(int) - each.picture)
        assert difference[:44].mean() < 8  # the camera's image
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["all.mp4"]


def test_pictures_of_other_sizes_are_fitted_and_named(tmp_path: Path, caplog) -> None:
    results = [result(200), result(201, 100, 50), result(202, 252, 88)]
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "all.mp4", results)
    height, width = results[0].picture.shape[:2]
    assert caplog.messages == [
        f"{tmp_path / 'all.mp4'}: 2 of 3 pictures have another size than the first, which is "
        f"{width} x {height}; they are scaled to fit into it, with black borders; the first of "
        "them is 000201"
    ]
    first, narrow, double = read(tmp_path / "all.mp4")
    assert first.shape == narrow.shape == double.shape == (height, width, 3)
    assert np.median(np.abs(double.astype(int) - first)) < 8  # the same scene at the same size
    inside = narrow[: height // 3].min(-1) > 100  # the camera's image, without the borders
    columns = np.flatnonzero(inside.any(0))
    ratio = height / results[1].picture.shape[0]
    assert np.ptp(columns) == pytest.approx(100 * ratio, abs=4)
    assert columns.min() + columns.max() == pytest.approx(width, abs=4)


def test_pictures_of_one_size_need_no_remark(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "all.mp4", [result(20), result(30)])
    assert not caplog.messages


def test_large_and_odd_pictures_become_videos_that_phones_decode(tmp_path: Path) -> None:
    large = result(90)
    large.__dict__["picture"] = np.full((3001, 4003, 3), 90, np.uint8)  # as if it had been drawn
    write(tmp_path / "large.mp4", [large])
    assert read(tmp_path / "large.mp4")[0].shape == (1438, 1920, 3)
    write(tmp_path / "odd.mp4", [result(90, 127, 45)])
    assert [side % 2 for side in read(tmp_path / "odd.mp4")[0].shape[:2]] == [0, 0]


def test_two_runs_into_one_file_leave_one_whole_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "all.mp4", 10.0) as one:
        one.add(result(20))
        with VideoSink(tmp_path / "all.mp4", 10.0) as other:
            other.add(result(60))
            one.add(result(20))
        assert len(read(tmp_path / "all.mp4")) == 1
        one.add(result(20))
    assert len(read(tmp_path / "all.mp4")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["all.mp4"]


def test_what_is_cut_off_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "all.mp4", [result(20)])
    before = (tmp_path / "all.mp4").read_bytes()

    def cut_off() -> Iterator[FrameResult]:
        yield result(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "all.mp4", cut_off())
    assert [path.name for path in tmp_path.iterdir()] == ["all.mp4"]
    assert (tmp_path / "all.mp4").read_bytes() == before


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"all\.mp4 can't be written: .*exists"):
        write(tmp_path / "file" / "all.mp4", [result(20)])
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("kd3d_core.offline.video_writers._OPENCV_CODECS", {"avc9": "none"})
    with pytest.raises(DataError, match=r"neither H\.264 nor VP9"):
        write(tmp_path / "all.mp4", [result(20)])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_letterboxed() -> None:
    white = np.full((10, 20, 3), 255, np.uint8)
    assert letterboxed(white, 20, 10) is white
    for width, height, inside in ((40, 40, (40, 20)), (30, 10, (20, 10)), (10, 10, (10, 5))):
        picture = letterboxed(white, width, height)
        assert picture.shape == (height, width, 3)
        rows, columns = np.nonzero(picture[..., 0])
        assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == inside
        assert columns.min() == (width - inside[0]) // 2
        assert rows.min() == (height - inside[1]) // 2


def test_a_browser_plays_it(tmp_path: Path) -> None:
    results = [result(brightness, 640, 480) for brightness in (0, 80, 160)]
    write(tmp_path / "all.mp4", [replace(each) for each in results for _ in range(5)])
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><title>video</title><video src="all.mp4" muted></video>')
    with browser_tab(tmp_path) as tab:
        tab.open(page.as_uri())
        assert (
            tab.run(
                "new Promise((done) => { const video = document.querySelector('video');"
                "video.onended = () => done(`played ${video.currentTime.toFixed(1)}`);"
                "video.onerror = () => done(video.error.message);"
                "video.play().catch((error) => done(String(error))); })"
            )
            == "played 1.5"
        )
        assert tab.run("document.querySelector('video').videoWidth") == 640 + 360


def test_h264_follows_the_stamps_and_plays_before_it_is_whole(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    results = [result(brightness) for brightness in (20, 60, 100, 140)]
    stamps_s = (0.0, 0.1, 0.5, 99.0)  # what leaps by more than two seconds is no film
    write(
        tmp_path / "all.mp4",
        [
            replace(each, frame=replace(each.frame, stamp_ns=round(stamp * 1e9)))
            for each, stamp in zip(results, stamps_s, strict=True)
        ],
    )
    data = (tmp_path / "all.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "all.mp4")) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        times = [float(frame.pts * frame.time_base) for frame in video.decode(stream)]
    np.testing.assert_allclose(times, (0, 0.1, 0.5, 0.6), atol=1e-3)
