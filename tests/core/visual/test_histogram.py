"""Histograms, measured in their SVG."""

import re
from xml.etree import ElementTree

import pytest

from kd3d_core.visual.histogram import histogram, latency_histogram

LABELS = ("offset, ms", "frames")
NS = "{http://www.w3.org/2000/svg}"


def bars(svg: str) -> list[tuple[float, float, float]]:
    """Left border, width and height of each bar."""
    return [
        (float(each.get("x", "")), float(each.get("width", "")), float(each.get("height", "")))
        for each in ElementTree.fromstring(svg).iter(f"{NS}rect")
    ]


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(svg).iter(f"{NS}text")]


def test_bars_are_as_high_as_their_counts() -> None:
    found = bars(histogram([4, 0, 2, 1], [-2, -1, 0, 1, 2], {}, LABELS))
    (first, width, highest), (third, _, half), (fourth, _, least) = found
    assert (half, least) == (pytest.approx(highest / 2), pytest.approx(highest / 4))
    assert third - first == pytest.approx(2 * width, abs=0.02)
    assert fourth - first == pytest.approx(3 * width, abs=0.02)


def test_marks_stand_at_their_values_and_in_the_legend() -> None:
    svg = histogram([1, 1], [0, 10, 20], {"median 5 <ms>": 5.0, "95 % 20": 20.0}, LABELS)
    left, width, _ = bars(svg)[0]
    places = [float(x) for x in re.findall(r'<path d="M([\d.]+) [\d.]+V[\d.]+" ', svg)]
    assert places == [pytest.approx(left + width / 2), pytest.approx(left + 2 * width)]
    assert {"median 5 <ms>", "95 % 20", *LABELS} <= set(texts(svg))
    assert "currentColor" in svg


@pytest.mark.parametrize(
    ("edges", "ticks"),
    [
        ([-50.0, 50.0], ["-40", "-20", "0", "20", "40"]),
        ([0.0, 0.001], ["0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"]),
        ([114_999.5, 115_000.5], ["114,999.6", "114,999.8", "115,000", "115,000.2", "115,000.4"]),
    ],
)
def test_ticks_are_round_numbers(edges: list[float], ticks: list[str]) -> None:
    shown = texts(histogram([3], edges, {}, LABELS))
    assert shown[: len(ticks)] == ticks
    assert shown[len(ticks) : -2] == ["0", "1", "2", "3"]


def test_latency() -> None:
    assert {"median 2 ms", "95 % 3 ms", "latency, ms"} <= set(texts(latency_histogram([1, 2, 3])))
