"""Plots as SVG for a page: text and axes take the page's colour, so light and dark both work.

Plots for files of their own are PNG.
"""

import hashlib
import io
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kd3d_core.visual.colors import PARTS, SERIES

_INK = "#0a0b0c"
"""Placeholder of the page's text colour, replaced when the SVG is written."""
Line = tuple[Sequence[float], Sequence[float]]
"""x and y of its points."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kd3d",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "axes.prop_cycle": f"cycler('color', {list(PARTS)})",
}


def curves(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
    labels: tuple[str, str],
) -> str:
    """Lines through (x, y) in [0, 1], by name."""
    with rc_context(_STYLE):
        figure, axes = _axes((5.4, 3.2))
        for name, (x, y) in series.items():
            axes.plot(x, y, label=name, linewidth=1.8)
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel=labels[0], ylabel=labels[1])
        axes.set_title(_shortened(title, 54))
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=_legend_columns(series))
        return _svg(figure)


def bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    labels: tuple[str, str],
    top: float | None = None,
) -> str:
    """Groups of bars, by name of the series; a dash stands for None."""
    with rc_context(_STYLE):
        figure, axes = _axes((3.9, 3.1))
        width = 0.8 / max(len(series), 1)
        for index, (name, values) in enumerate(series.items()):
            places = np.arange(len(names)) + (index - (len(series) - 1) / 2) * width
            heights = [0.0 if value is None else value for value in values]
            axes.bar(places, heights, width * 0.92, label=_shortened(name, 42))
            for place, value in zip(places, values, strict=True):
                if value is None:
                    axes.text(place, 0, "-", ha="center", va="bottom")
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
        if top is not None:
            axes.set_ylim(0, top)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        if len(series) > 1:
            figure.legend(loc="outside lower center", ncols=_legend_columns(series, 42))
        return _svg(figure)


def stacks(
    names: Sequence[str],
    series: Mapping[str, Sequence[int]],
    title: str,
    labels: tuple[str, str],
) -> str:
    """Bars of numbers that add up, by name of the series; no more series than `PARTS`."""
    with rc_context(_STYLE):
        figure, axes = _axes((5.4, 3.4))
        below = np.zeros(len(names))
        for (name, values), color in zip(series.items(), PARTS, strict=False):
            axes.bar(names, values, 0.7, below, label=name, color=color)
            below += values
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.set_title(_shortened(title, 54))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        figure.legend(loc="outside right upper")
        return _svg(figure)


def seed_dots(values: Mapping[str, Mapping[str, Sequence[float]]], label: str, title: str) -> bytes:
    """A PNG with a panel for each metric: by name, a dot for each value and a line at their mean.

    `label` is of the axis that the metrics share, `title` stands above all panels.
    """
    with rc_context(_STYLE):
        rows = max((len(by_name) for by_name in values.values()), default=1)
        figure = Figure((2.6 * len(values) + 1.2, 0.35 * rows + 1.5), layout="constrained")
        panels = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
        for axes, (metric, by_name) in zip(panels, values.items(), strict=True):
            for place, found in enumerate(by_name.values()):
                colour = SERIES[place % len(SERIES)]
                if len(found):
                    mean = float(np.mean(found))
                    axes.plot([mean] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
                axes.plot(found, [place] * len(found), "o", color=colour, alpha=0.6)
            axes.set_yticks(range(len(by_name)), list(by_name))
            axes.set(title=metric, xlabel=label)
            axes.grid(axis="x", alpha=0.25)
        panels[0].invert_yaxis()
        figure.suptitle(title)
        return _png(figure)


def epoch_lines(
    values: Mapping[str, Mapping[str, Sequence[Line]]], label: str, title: str
) -> bytes:
    """A PNG with a panel for each metric: a line for each run, those of a name in one colour.

    `label` is of the axis that the metrics share, `title` stands above all panels.
    """
    with rc_context(_STYLE):
        figure = Figure((2.6 * max(len(values), 1) + 1.6, 3.4), layout="constrained")
        panels = figure.subplots(1, max(len(values), 1), squeeze=False)[0]
        styles = ("-", "--", ":", "-.")
        for axes, (metric, by_name) in zip(panels, values.items(), strict=False):
            for place, (name, runs) in enumerate(by_name.items()):
                colour = SERIES[place % len(SERIES)]
                style = styles[place // len(SERIES) % len(styles)]
                for index, (x, y) in enumerate(runs):
                    axes.plot(
                        x, y, style, color=colour, label=name if index == 0 else None, marker=".",
                        linewidth=1.4, alpha=0.8,
                    )  # fmt: skip
            axes.set(title=metric, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25)
        panels[0].set_ylabel(label)
        handles, names = panels[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, names, loc="outside right upper")
        figure.suptitle(title)
        return _png(figure)


def _legend_columns(names: Collection[str], most: int = 54) -> int:
    """All names in a row if they are short, else two or one below the other."""
    width = sum(len(name) + 5 for name in names)  # with the sample of the line
    for columns in (len(names), 2):
        if width * columns <= most * len(names):
            return columns
    return 1


def _shortened(name: str, most: int) -> str:
    """The name, or its end: runs are named after folders, whose ends differ."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(size, layout="constrained")
    return figure, figure.add_subplot()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """The `<svg>` element of a figure, with names of its own, so that a page can hold many."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    prefix = f"plot-{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    text = re.sub(r'((?<![\w-])id="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    return text.replace(_INK, "currentColor")
