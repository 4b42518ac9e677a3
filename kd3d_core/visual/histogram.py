"""Histograms as SVG for a page, drawn without a plotting library, which takes a second to load.

Text and axes have the page's colour, so light and dark both work.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from kd3d_core.visual.colors import SERIES

_WIDTH, _HEIGHT = 672, 250
# The plot in it, where axes and legend leave room, in pixels.
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 12, 512, 198
_DASHES = ("", "8 4", "2 3")
_MOST_TICKS = 7


def latency_histogram(latency_ms: Sequence[float]) -> str:
    """Histogram of the latency, with median and 95th percentile."""
    counts, edges = np.histogram(latency_ms, histogram_bins(len(latency_ms)))
    marks = {
        f"{name} {value:.0f} ms": value
        for name, value in zip(("median", "95 %"), np.percentile(latency_ms, (50, 95)), strict=True)
    }
    return histogram(counts.tolist(), edges.tolist(), marks, ("latency, ms", "frames"))


def histogram_bins(count: int) -> int:
    """How many bins suit a number of values."""
    return min(40, max(8, round(count**0.5) * 2))


def histogram(
    counts: Sequence[int],
    edges: Sequence[float],
    marks: Mapping[str, float],
    labels: tuple[str, str],
) -> str:
    """The `<svg>` element of bars between edges, of which there is one more.

    Args:
        marks: where lines stand, by the name that the legend has.
        labels: of the axes.

    >>> svg = histogram([2, 5], [0, 1, 2], {"median": 1.4}, ("offset, ms", "frames"))
    >>> svg.count("<rect"), "offset, ms" in svg
    (2, True)
    """
    highest = max([1, *counts])
    start, end = edges[0], edges[-1]

    def across(value: float) -> float:
        return _LEFT + (value - start) / (end - start) * (_RIGHT - _LEFT)

    def up(value: float) -> float:
        return _BOTTOM - value / highest * 0.96 * (_BOTTOM - _TOP)

    parts = [
        f'<rect x="{across(low):.2f}" y="{up(count):.2f}" width="{across(high) - across(low):.2f}" '
        f'height="{_BOTTOM - up(count):.2f}" fill="{SERIES[0]}"/>'
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
        if count
    ]
    for row, ((name, value), dashes) in enumerate(zip(marks.items(), _DASHES, strict=False)):
        height = _TOP + 8 + 20 * row
        stroke = f'stroke="{SERIES[1]}" stroke-width="1.6" stroke-dasharray="{dashes}"'
        parts += [
            f'<path d="M{across(value):.2f} {_TOP}V{_BOTTOM}" {stroke}/>',
            f'<path d="M{_RIGHT + 16} {height}h26" {stroke}/>',
            _text(_RIGHT + 50, height + 4, name),
        ]
    parts.append(f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}" stroke="currentColor"/>')
    for tick in _ticks(start, end):
        parts.append(f'<path d="M{across(tick):.2f} {_BOTTOM}v4" stroke="currentColor"/>')
        parts.append(_text(across(tick), _BOTTOM + 18, f"{tick:,.10g}", "middle"))
    for tick in _ticks(0, highest, whole=True):
        parts.append(f'<path d="M{_LEFT} {up(tick):.2f}h-4" stroke="currentColor"/>')
        parts.append(_text(_LEFT - 8, up(tick) + 4, f"{tick:,.10g}", "end"))
    parts.append(_text((_LEFT + _RIGHT) / 2, _BOTTOM + 40, labels[0], "middle"))
    middle = (_TOP + _BOTTOM) / 2
    turn = f' transform="rotate(-90 14 {middle:g})"'
    parts.append(_text(14, middle, labels[1], "middle", turn))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" fill="none" font-family="sans-serif" font-size="13">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", more: str = "") -> str:
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{escape(text)}</text>"
    )


def _ticks(start: float, end: float, whole: bool = False) -> Iterator[float]:
    """Round numbers between two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (end - start) / _MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    for number in range(math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9) + 1):
        yield round(number * step, 12)
