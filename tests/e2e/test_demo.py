"""The demo: four processes over DDS, with the real `lite` on the real sequence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from rosbags.highlevel import AnyReader

from kd3d_core.data.kitti import KittiDataset

pytest.importorskip("rclpy", reason="the demo needs ROS: run `make env`")

ROOT = Path(__file__).parents[2]


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kd3d_ros.demo", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tracking: KittiDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished demo of all 31 frames at 10 Hz."""
    out = tmp_path_factory.mktemp("demo")
    done = run_demo("--data", str(tracking.root), "--out", str(out), "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "UNTRAINED" in done.stdout
    return out


def test_no_image_is_lost_and_the_summary_adds_up(demo: Path):
    summary = json.loads((demo / "summary.json").read_text())
    assert summary["frames_sent"] == 31
    assert summary["frames_lost"] == 0
    assert summary["frames_processed"] >= 2
    assert summary["frames_processed"] + summary["frames_dropped"] == 31
    latency = summary["latency_ms"]
    assert 0 < latency["median"] <= latency["p95"]
    assert sum(summary["boxes"].values()) > 0
    assert summary["weights"] == {"depth": "random", "detector": "random", "trained": False}


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
    processed = json.loads((demo / "summary.json").read_text())["frames_processed"]
    assert set(headers) == {"points", "detections", "markers"}
    assert headers["points"] == headers["detections"] == headers["markers"]
    assert len(headers["points"]) == processed
    assert {frame for _, _, frame in headers["points"]} == {"velodyne"}


def test_there_is_a_picture_of_each_processed_frame(demo: Path):
    pictures = sorted((demo / "frames").glob("*.png"))
    assert len(pictures) == json.loads((demo / "summary.json").read_text())["frames_processed"]
    picture = cv2.imread(str(pictures[0]))
    assert picture.shape[1] == 1242
    assert picture.shape[0] > 2 * 375
    # The corner's red UNTRAINED.
    corner = picture[8:26, 8:300].astype(int)
    assert ((corner[..., 2] > 200) & (corner[..., 0] < 120)).sum() > 200


def test_precision_and_recall_are_of_the_processed_frames(demo: Path, tracking: KittiDataset):
    summary = json.loads((demo / "summary.json").read_text())
    judged = summary["judged"]
    assert judged["frames"] == summary["frames_processed"]
    labelled = [label.type for frame in tracking for label in frame.objects()]
    assert 0 < judged["labels"]["Car"] <= labelled.count("Car")
    assert judged["labels"]["Cyclist"] == labelled.count("Cyclist") == 0
    for name in ("recall", "recall_30m"):
        assert 0 <= summary[name]["Car"] <= 1
        assert summary[name]["Cyclist"] is None
    assert set(summary["precision"]) == {"Car", "Pedestrian", "Cyclist"}


def test_the_report_shows_each_processed_frame(demo: Path):
    text = (demo / "report.html").read_text()
    processed = json.loads((demo / "summary.json").read_text())["frames_processed"]
    assert text.count('<section class="frame"') == processed
    assert text.count('src="data:image/jpeg;base64,') == 2 * processed
    assert "UNTRAINED" in text
    assert "Histogram of the latency" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "light"], "no model is called 'light'"),
        (["--frames", "90:"], "selects none of the"),
        (["--model", "mvxnet_kitti"], "kd3d-weights get glpn-kitti"),
    ],
)
def test_what_goes_wrong_is_one_line(tracking: KittiDataset, tmp_path: Path, arguments, message):
    frames = [] if "--frames" in arguments else ["--frames", "0:2"]
    where = ["--data", str(tracking.root), "--out", str(tmp_path)]
    done = run_demo(*where, *frames, *arguments, KD3D_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_without_data_it_says_what_to_download(tmp_path: Path):
    done = run_demo(KD3D_DATA=str(tmp_path))
    assert done.returncode == 1
    assert "download KITTI" in done.stderr
    assert "KD3D_DATA" in done.stderr
