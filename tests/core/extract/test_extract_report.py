"""The report of an extraction: its numbers against those counted by hand, and its page."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from boards import CAMERA, boards
from browser import Tab, browser_tab

from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.data.labels import Label
from kd3d_core.extract.edges import turned
from kd3d_core.extract.looks import look_at
from kd3d_core.extract.report import report_values, write_report
from kd3d_core.extract.summary import (
    CameraReport,
    CameraSet,
    ClockJump,
    ExtractReport,
    FrameReport,
    RecordingReport,
    Sample,
    Tally,
    TopicReport,
)

S = 10**9
CAR = Label("Car", 0, 0, 0, (430, 180, 560, 280), (1.5, 1.7, 4.2), (0.3, 1.6, 14), 1.5)
OFFSETS_MS = [-30, -10, 0, 5, 40]


def frame(index: int) -> FrameReport:
    stamp = (10 + index) * S
    return FrameReport(
        f"{index:06d}",
        stamp,
        stamp + OFFSETS_MS[index] * 10**6,
        1000 + index,
        {"not finite": 2} if index else {},
        0.5 + 0.1 * index,
        1,
        10**6,
        "each point moved" if index < 3 else "not moved: who knows",
    )


def front(turn: str = "") -> CameraReport:
    """A camera with LiDAR, perhaps turned by a degree from where it really was."""
    looks = []
    for seed in range(5):
        sample = boards(seed)
        camera = turned(CAMERA, turn) if turn else CAMERA
        sample = Sample(sample.name, sample.image, camera, sample.points, (CAR,))
        looks.append(look_at(sample, is_drawn=seed < 4))
    return CameraReport(
        CameraSet("front", CameraTopics("/front/image_raw", "/front/camera_info")),
        {
            "/front/image_raw": Tally(5, {"no scan": 25}, {"it is <cut> off": 1}),
            "/points": Tally(5, {"no image": 2}),
        },
        tuple(map(frame, range(5))),
        tuple(looks),
        0.05,
        ("images of /front/image_raw are taken to be rectified",),
        700.0,
        1.6,
    )


def rear() -> CameraReport:
    """A camera of a recording without LiDAR."""
    frames = tuple(
        replace(frame(index), points=0, dropped={}, in_image=None, motion="", labels=0)
        for index in range(2)
    )
    look = look_at(Sample("000000", boards(0).image, CAMERA))
    topics = CameraTopics("/rear/image", "/rear/camera_info")
    return CameraReport(CameraSet("rear", topics), {"/rear/image": Tally(2)}, frames, (look,))


def report(turn: str = "", stopped: str = "", extracted: bool = True) -> ExtractReport:
    topics = (
        TopicReport("/front/image_raw", "sensor_msgs/msg/Image", 31, 30.0, 9 * S, 10 * S, 3, 2),
        TopicReport(
            "/points",
            "sensor_msgs/msg/PointCloud2",
            7,
            10.0,
            jumps=(ClockJump(12 * S, -1.5),),
            jump_count=1,
        ),
        TopicReport("/chatter", "", 4),
    )
    others = {"/chatter": Tally(0, {}, {"no ROS 2 messages": 4})}
    first = RecordingReport("a.mcap", 9 * S, 139 * S, topics, others, (front(turn),), stopped)
    second = RecordingReport("b/<b>", 200 * S, 210 * S, (), {}, (rear(),))
    return ExtractReport((first, second), {"clock": "header", "every": 1}, "0.1.0", extracted)


def strict(text: str) -> Any:
    """JSON without NaN and the like, which is none."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report")
    write_report(report(stopped="a.mcap: cut off at byte 17"), path)
    return path


def test_numbers_are_those_counted_by_hand(folder: Path) -> None:
    values = strict((folder / "report.json").read_text())
    assert values["frames"] == 7
    assert values["size_bytes"] == 7 * 10**6
    first, second = values["recordings"]
    assert first["others"]["/chatter"]["rejected"] == {"no ROS 2 messages": 4}
    (camera,) = first["cameras"]
    assert camera["tallies"]["/front/image_raw"] == {
        "used": 5,
        "skipped": {"no scan": 25},
        "rejected": {"it is <cut> off": 1},
    }
    offsets = camera["offset_s"]
    assert offsets["median"] == 0
    assert offsets["p95"] == pytest.approx(0.038)  # of 0, 5, 10, 30, 40 ms
    assert (offsets["least"], offsets["most"]) == (-0.03, 0.04)
    assert sum(offsets["histogram"]["counts"]) == 5
    assert offsets["histogram"]["edges"][0] == -0.05  # what is allowed
    assert offsets["histogram"]["edges"][-1] == 0.05
    assert camera["points"]["median"] == 1002
    assert camera["in_image"]["median"] == pytest.approx(0.7)
    assert camera["dropped_points"] == {"not finite": 8}
    assert camera["motion"] == {"each point moved": 3, "not moved: who knows": 2}
    assert camera["labels"] == 5
    (rear_camera,) = second["cameras"]
    for name in ("offset_s", "points", "in_image", "calibration", "max_offset_s"):
        assert rear_camera[name] is None, name


def test_calibration_is_in_it_and_a_wrong_one_is_said_loudly(tmp_path: Path, folder: Path) -> None:
    right = strict((folder / "report.json").read_text())
    calibration = right["recordings"][0]["cameras"][0]["calibration"]
    assert calibration["edges"]["frames"] == 5
    assert all(change < 0 for change in calibration["edges"]["changes"].values())
    assert not [text for text in right["warnings"] if "edges" in text]
    wrong = report_values(report(turn="+y"))
    (warning,) = [text for text in wrong["warnings"] if "edges" in text]
    words = r"a\.mcap, /front/image_raw: turning the camera by -1° about its axis y improves the "
    assert re.fullmatch(words + r"score of edges by \d+%: check the calibration", warning)


def test_the_page_says_the_same(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    for expected in (
        '<p class="warning" role="alert">Reading stopped: a.mcap: cut off at byte 17',
        "<li>Reading stopped: a.mcap: cut off at byte 17</li>",
        "2:10 min from 1970-01-01 00:00:09 UTC on.",
        "/points: the header&#39;s clock jumps by -1.500 s at 00:00:12",
        "<td>it is &lt;cut&gt; off</td><td>1</td>",
        "<td>no scan</td><td>25</td>",
        "sweeps: not moved: who knows</th><td>2</td>",
        "points left out: not finite</th><td>8</td>",
        "are taken to be rectified",
        "camera over the ground</th><td>1.60 m</td>",
        "b/&lt;b&gt;",
        "<dd>7 MB</dd>",
    ):
        assert expected in text, expected
    assert text.count("<img") == 2 * 4 + 1  # four of five samples; without LiDAR the image alone


def test_a_check_says_that_nothing_was_written(tmp_path: Path) -> None:
    write_report(report(extracted=False), tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "nothing was written but this report" in text
    assert "Check before an extraction" in text


def test_a_recording_without_frames_and_samples(tmp_path: Path) -> None:
    camera = replace(front(), frames=(), looks=(), focal_px=None, camera_height_m=None)
    empty = RecordingReport("c", 0, 0, (), {}, (camera,))
    write_report(ExtractReport((empty,), {}, "0", True), tmp_path)
    values = strict((tmp_path / "report.json").read_text())
    assert values["recordings"][0]["cameras"][0]["calibration"] == {"edges": None, "findings": []}
    assert "too few edges" in (tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def tab(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser_tab(tmp_path_factory.mktemp("profile")) as opened:
        opened.open((folder / "report.html").as_uri())
        yield opened


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_on_narrow_and_wide_screens(tab: Tab, width: int, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    tab.call("Emulation.setEmulatedMedia", features=features)
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    tab.call("Emulation.setDeviceMetricsOverride", **size)
    assert tab.run("document.documentElement.scrollWidth") <= width
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(15, 19, 24)")
    assert tab.complaints == []
    assert all(url.startswith(("data:", "file:")) for url in tab.requests)
