"""The demo: its processes over DDS, with a real model, on a rendered drive and on a real one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import browser_tab
from rosbags.highlevel import AnyReader

from kd3d_core.data.kitti import KittiDataset

pytest.importorskip("rclpy", reason="the demo needs ROS: run `make env`")

from kd3d_ros.demo_input import DRIVE_FRAMES, DRIVE_SEED

ROOT = Path(__file__).parents[2]


def run_demo(
    *arguments: str, limit_s: float = 300.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kd3d_ros.demo", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished demo without data: some frames of the rendered drive, `lite`."""
    out = tmp_path_factory.mktemp("demo")
    arguments = ["--frames", "0:4", "--model", "lite", "--device", "cpu", "--out", str(out)]
    done = run_demo(*arguments, KD3D_DATA=str(out / "nothing"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "UNTRAINED" in done.stdout
    return out


def summary_of(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def adds_up(summary: dict, sent: int) -> None:
    assert summary["frames_sent"] == sent
    assert summary["frames_lost"] == 0
    assert summary["frames_processed"] >= 1
    assert summary["frames_processed"] + summary["frames_dropped"] == sent
    latency = summary["latency_ms"]
    assert 0 < latency["median"] <= latency["p95"]


def test_no_image_is_lost_and_the_summary_adds_up(demo: Path):
    summary = summary_of(demo)
    adds_up(summary, 4)
    assert (summary["model"], summary["drive"]) == ("lite", f"rendered drive, seed {DRIVE_SEED}")
    assert sum(summary["boxes"].values()) > 0
    weights = {"depth": "random", "detector": "random", "trained": False}
    assert summary["weights"] == {**weights, "trained_on": "not known"}


def test_every_result_has_points_boxes_and_markers_of_one_stamp_and_frame(demo: Path):
    headers: dict[str, list[tuple]] = {}
    with AnyReader([demo / "output"]) as bag:
        for connection, _, data in bag.messages():
            message = bag.deserialize(data, connection.msgtype)
            inner = getattr(message, "markers", None) or getattr(message, "detections", None) or []
            found = {
                (h.stamp.sec, h.stamp.nanosec, h.frame_id)
                for h in [getattr(message, "header", None), *(item.header for item in inner)]
                if h is not None
            }
            assert len(found) == 1
            headers.setdefault(connection.topic.rpartition("/")[2], []).append(found.pop())
    processed = summary_of(demo)["frames_processed"]
    assert set(headers) == {"points", "detections", "markers"}
    assert headers["points"] == headers["detections"] == headers["markers"]
    assert len(headers["points"]) == processed
    assert {frame for _, _, frame in headers["points"]} == {"velodyne"}


def test_there_is_a_picture_of_each_processed_frame(demo: Path):
    pictures = sorted((demo / "frames").glob("*.png"))
    assert len(pictures) == summary_of(demo)["frames_processed"]
    picture = cv2.imread(str(pictures[0]))
    assert picture.shape[1] == 1242
    assert picture.shape[0] > 2 * 375
    # The corner's red UNTRAINED.
    corner = picture[8:26, 8:300].astype(int)
    assert ((corner[..., 2] > 200) & (corner[..., 0] < 120)).sum() > 200


def test_precision_and_recall_are_of_the_processed_frames(demo: Path):
    summary = summary_of(demo)
    judged = summary["judged"]
    assert judged["frames"] == summary["frames_processed"]
    frames = KittiDataset(demo / "drive")
    labelled = [label.type for frame in frames for label in frame.objects()]
    assert 0 < judged["labels"]["Car"] <= labelled.count("Car")
    for name in ("recall", "recall_30m"):
        assert 0 <= summary[name]["Car"] <= 1
    assert set(summary["precision"]) == {"Car", "Pedestrian", "Cyclist"}


def test_the_report_shows_each_processed_frame(demo: Path):
    text = (demo / "report.html").read_text()
    processed = summary_of(demo)["frames_processed"]
    assert text.count('<section class="frame"') == processed
    assert text.count('src="data:image/jpeg;base64,') == 2 * processed
    assert "UNTRAINED" in text
    assert "Histogram of the latency" in text


def test_a_browser_shows_the_report(demo: Path, tmp_path: Path):
    with browser_tab(tmp_path) as tab:
        tab.open((demo / "report.html").as_uri())
        assert "model lite on rendered drive" in tab.run("document.querySelector('h1').textContent")
        assert "UNTRAINED" in tab.run("document.querySelector('[role=alert]').textContent")
        decoded = "Promise.all([...document.images].map((image) => image.decode()))"
        widths = tab.run(f"{decoded}.then(() => [...document.images].map((i) => i.naturalWidth))")
        assert widths[0] == 1242
        assert len(widths) == 2 * summary_of(demo)["frames_processed"]
        assert tab.complaints == []


def test_a_real_sequence_in_real_time(tracking: KittiDataset, tmp_path: Path):
    arguments = ["--data", str(tracking.root), "--frames", "0:10", "--speed", "1"]
    done = run_demo(*arguments, "--model", "lite", "--device", "cpu", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    summary = summary_of(tmp_path)
    adds_up(summary, 10)
    assert summary["drive"] == tracking.root.parent.name
    assert summary["judged"]["frames"] == summary["frames_processed"]
    assert not (tmp_path / "drive").exists()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six frames at 25 per second."""
    path = tmp_path / "street.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (320, 120))
    for brightness in range(6):
        writer.write(np.full((120, 320, 3), 40 * brightness, np.uint8))
    writer.release()
    return path


def test_a_video_of_a_camera_that_nobody_calibrated(video: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ["--video", str(video), "--frames", "1:5", "--speed", "0.1", "--out", str(out)]
    done = run_demo(*arguments, "--model", "lite", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = summary_of(out)
    adds_up(summary, 4)
    assert (summary["drive"], summary["judged"]) == ("street.avi", None)
    # 320 pixels at 60 degrees, guessed; all of it is in the bag that the node has heard.
    focal = 160 / np.tan(np.radians(30))
    with AnyReader([out / "input"]) as bag:
        messages = [(c.topic, bag.deserialize(data, c.msgtype)) for c, _, data in bag.messages()]
    images = [message for topic, message in messages if topic == "/camera/image_raw"]
    assert [round(message.data.mean() / 40) for message in images] == [1, 2, 3, 4]
    stamps = [message.header.stamp.nanosec for message in images]
    assert np.diff(stamps).tolist() == [40_000_000] * 3
    infos = [message for topic, message in messages if topic == "/camera/camera_info"]
    assert infos[0].k[0] == pytest.approx(focal)
    page = (out / "report.html").read_text()
    for part in (
        "nothing says its focal length: a field of view of 60 degrees",
        f"focal length {focal:.0f} px GUESSED",
        "camera 1.65 m high, level: assumed",
    ):
        assert part in page
        assert part in done.stdout


@pytest.mark.slow
def test_the_shipped_model_finds_the_cars_of_the_drive(tmp_path: Path):
    done = run_demo("--out", str(tmp_path), limit_s=1200.0)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = summary_of(tmp_path)
    adds_up(summary, DRIVE_FRAMES)
    assert (summary["model"], summary["weights"]["trained"]) == ("demo", True)
    assert summary["judged"]["labels"]["Car"] > summary["frames_processed"]
    assert summary["recall_30m"]["Car"] > 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "light"], "no model is called 'light'"),
        (["--frames", "90:"], "selects none of the"),
        (["--speed", "0"], "--speed 0: give a number above 0"),
        (["--data", "nowhere"], "nowhere: there is no such folder"),
        (["--video", "Makefile"], "Makefile can't be opened: no video that FFmpeg knows"),
        (["--hfov", "70"], "--hfov and --camera-height are of a --video"),
    ],
)
def test_what_goes_wrong_is_one_line(tmp_path: Path, arguments: list[str], message: str):
    model = [] if "--model" in arguments else ["--model", "lite"]
    done = run_demo(*model, *arguments, "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_missing_weights_are_one_line(tracking: KittiDataset, tmp_path: Path):
    where = ["--data", str(tracking.root), "--frames", "0:2", "--out", str(tmp_path)]
    done = run_demo(*where, "--model", "mvxnet_kitti", KD3D_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert "kd3d-weights get glpn-kitti" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
