"""The report of a drive: what the file holds, and what a browser makes of it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Tab, browser_tab

from kd3d_core.errors import DataError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual import plots
from kd3d_core.visual.frame import Scene
from kd3d_core.visual.page import Drawing, Page, Picture, Section, Table, render
from kd3d_core.visual.report import DriveFrame, drive_frame, write_report

FRAMES = 4
VISIBLE = "[...document.querySelectorAll('.frame')].findIndex((frame) => !frame.hidden)"


def boxes(*rows: tuple[str, float, float]) -> ObjectBoxes:
    """Boxes from class, metres ahead and score."""
    numbers = np.array([[x, 1.0, -1.7, 4, 1.8, 1.5, 0] for _, x, _ in rows], np.float32)
    names, scores = tuple(name for name, _, _ in rows), np.array([score for _, _, score in rows])
    return ObjectBoxes(0, "lidar", numbers.reshape(-1, 7), names, scores)


def frame(index: int, truth: bool = True) -> DriveFrame:
    """A grey image with a car that is found, one that is missed and one that isn't there."""
    projection = np.array([[300.0, 0, 200, 0], [0, 300, 75, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, 400, 150, virtual_lidar_from_camera(1.65))
    points = np.random.default_rng(index).uniform(0, 40, (500, 4)).astype(np.float32)
    scene = Scene(
        np.full((150, 400, 3), 60 + 20 * index, np.uint8),
        camera,
        points,
        boxes(("Car", 15 + index, 0.9), ("Car", 45, 0.6), ("Cyclist", 20, 0.1)),
        boxes(("Car", 15 + index, 1), ("Car", 29, 1)) if truth else None,
    )
    return drive_frame(f"{index / 10:.1f} s", scene, 50.0 + index)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    frames = [frame(index) for index in range(FRAMES)]
    write_report(path, "A <drive>", frames, facts={"model": "lite & co"}, warning="UNTRAINED: no")
    return path


class _Reader(HTMLParser):
    """What a page links to, its pictures without text, and its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images = self.without_alt = 0
        self.rows: list[list[str]] = []
        self._in_row = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [values[name] or "" for name in ("src", "href") if name in values]
        if tag == "img":
            self.images += 1
            self.without_alt += not values.get("alt")
        elif tag == "tr":
            self.rows.append([])
            self._in_row = True

    def handle_endtag(self, tag: str) -> None:
        self._in_row &= tag != "tr"

    def handle_data(self, data: str) -> None:
        if self._in_row and data.strip():
            self.rows[-1].append(data.strip())


def test_the_file_needs_nothing_else(report: Path):
    text = report.read_text()
    reader = _Reader(text)
    assert reader.images == 2 * FRAMES
    assert reader.without_alt == 0
    assert all(link.startswith(("data:", "#")) for link in reader.links)
    assert not re.search(r"url\((?!#)|@import|fetch\(", text)


def test_numbers_are_those_counted_by_hand(report: Path):
    rows = _Reader(report.read_text()).rows
    # In each of 4 frames: one car of two found (the near one of two near ones), one wrong; the
    # cyclist's score is below the threshold.
    car = ["Car", "50.0 %", "50.0 %", "50.0 %", "8", "4", "4", "4"]
    assert car in rows
    assert ["Cyclist", "-", "-", "-", "0", "0", "0", "0"] in rows
    assert ["Car", "8", "2.0", "8"] in rows
    assert ["Cyclist", "4", "1.0", "0"] in rows


def test_a_warning_is_said_loudly_and_only_if_there_is_one(report: Path, tmp_path: Path):
    assert '<p class="warning" role="alert">UNTRAINED: no</p>' in report.read_text()
    write_report(tmp_path / "trained.html", "Drive", [frame(0)])
    assert 'role="alert"' not in (tmp_path / "trained.html").read_text()


def test_text_is_text_and_never_markup(report: Path):
    text = report.read_text()
    assert "A &lt;drive&gt;" in text
    assert "lite &amp; co" in text
    section = Section("</script>", (Table(("a",), (("<b>",),)), Drawing("<svg></svg>", '"<i>"')))
    page = render(Page("t", "", (), (section,)))
    assert "<b>" not in page
    assert "<i>" not in page
    assert page.count("</script>") == 1


def test_without_labels_there_is_no_precision_and_without_frames_still_a_page(tmp_path: Path):
    write_report(tmp_path / "plain.html", "Drive", [frame(0, truth=False)])
    text = (tmp_path / "plain.html").read_text()
    assert "Precision" not in text
    assert "ground truth" not in text
    write_report(tmp_path / "empty.html", "Drive", [])
    assert "in 0 frames" in (tmp_path / "empty.html").read_text()


def test_pictures_keep_their_colours():
    colour = np.zeros((40, 60, 3), np.uint8)
    colour[..., 0] = 200
    picture = Picture.encode(colour, "red")
    assert (picture.width, picture.height) == (60, 40)
    decoded = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(decoded[20, 30], [0, 0, 200], atol=6)  # OpenCV's order is BGR


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        write_report(tmp_path / "file" / "report.html", "Drive", [frame(0)])


def text_places(svg: str) -> dict[str, tuple[float, float]]:
    """Where the texts of a plot stand, by what they say."""
    found = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', svg)
    return {text: (float(x), float(y)) for x, y, text in found}


def test_names_of_runs_have_room_in_the_legend():
    def legend(*names: str) -> list[tuple[float, float]]:
        series = {name: [50.0, None] for name in names}
        places = text_places(plots.bars(["near", "far"], series, "Car", ("", "AP, %")))
        return [places[name if len(name) < 43 else f"…{name[-41:]}"] for name in names]

    (left, row), (right, other_row) = legend("lite", "lite_epoch_20")
    assert left < right
    assert row == other_row
    (left, row), (right, other_row) = legend("lite_random", "distilled/phase_two/epoch_40")
    assert left == right
    assert row < other_row
    (place, *_) = legend("runs/" * 20 + "first", "runs/" * 20 + "second")
    assert place[0] > 0


def test_plots_take_the_pages_colour_and_share_no_names():
    def bars(value: float) -> str:
        return plots.bars(["near"], {"lite": [value]}, "Car", ("", "AP, %"))

    first, second = bars(40.0), bars(60.0)
    assert "currentColor" in first
    assert first.startswith("<svg")
    names = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
    for svg, own in zip((first, second), names, strict=True):
        used = re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)
        assert used
        assert set(used) <= own
    assert bars(40.0) == first


@pytest.fixture(scope="module")
def tab(report: Path, tmp_path_factory: pytest.TempPathFactory):
    with browser_tab(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(report.as_uri())
        yield opened


def test_a_browser_loads_it_without_complaint_or_network(tab: Tab, report: Path):
    assert tab.run("document.title") == "A <drive>"
    decoded = "Promise.all([...document.images].map((image) => image.decode()))"
    sizes = f"{decoded}.then(() => [...document.images].map((image) => image.naturalWidth))"
    assert tab.run(sizes) == [400, 600] * FRAMES
    assert tab.complaints == []
    assert {url for url in tab.requests if not url.startswith("data:")} == {report.as_uri()}


def test_the_slider_changes_the_frame(tab: Tab):
    for index in (2, 0, 3):
        tab.run(
            "(() => { const slider = document.querySelector('input[type=range]');"
            f"slider.value = {index}; slider.dispatchEvent(new Event('input')); }})()"
        )
        assert tab.run(VISIBLE) == index
        assert tab.run("document.querySelectorAll('.frame:not([hidden])').length") == 1
        shown = tab.run("document.querySelector('output').textContent")
        assert shown == f"{index + 1} of {FRAMES}: {index / 10:.1f} s"


def test_an_address_leads_to_a_frame(tab: Tab):
    for title, index in (("0.2%20s", 2), ("0.0 s", 0), ("nowhere", 0)):
        tab.run(
            "new Promise((done) => { addEventListener('hashchange', done, { once: true });"
            f"location.hash = '{title}'; }})"
        )
        assert tab.run(VISIBLE) == index


def test_keys_leaf_through_and_space_plays_to_the_end(tab: Tab):
    for key, expected in (
        ("Home", 0), ("ArrowLeft", 0), ("ArrowRight", 1), ("End", 3), ("ArrowRight", 3), ("Home", 0)
    ):  # fmt: skip
        tab.press(key)
        assert tab.run(VISIBLE) == expected, key
    tab.press(" ", " ")
    button = "document.querySelector('[data-play]').textContent"
    assert tab.run(button) == "Pause"
    wait = (
        "new Promise((done) => { const look = () => "
        f"{button} === 'Play' ? done(true) : setTimeout(look, 20); look(); }})"
    )
    assert tab.run(wait)
    assert tab.run(VISIBLE) == FRAMES - 1
    tab.run("document.querySelector('[data-play]').click()")  # starts anew from the end
    tab.press("ArrowLeft")  # and any step ends it
    assert tab.run(button) == "Play"
    assert tab.run(VISIBLE) <= 1


def test_nothing_is_wider_than_a_narrow_screen(tab: Tab):
    tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=420, height=800, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    assert tab.run("document.documentElement.scrollWidth") <= 420
