"""A page of HTML that needs nothing else: text, tables, drawings and strips of pictures.

The page is plain data, which `write_page` turns into one file. Pictures are inside it as data URIs,
so that it can be sent, archived and opened without a network.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np

from kd3d_core.errors import Kd3dError
from kd3d_core.files import write_whole
from kd3d_core.visual.colors import Color


@dataclass(frozen=True)
class Picture:
    """A JPEG: its bytes, its size in pixels, and a description for readers who can't see it."""

    jpeg: bytes
    width: int
    height: int
    alt: str

    @classmethod
    def encode(cls, rgb: np.ndarray, alt: str) -> "Picture":
        """Compress `(H, W, 3)` uint8 RGB."""
        done, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        if not done:
            raise Kd3dError(f"a picture of shape {rgb.shape} can't be compressed as JPEG")
        return cls(data.tobytes(), rgb.shape[1], rgb.shape[0], alt)

    @property
    def uri(self) -> str:
        """The picture as the `src` of an `<img>`."""
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the row.

    `links`, one for each row if there are any, say where its name leads to; empty: nowhere. Frames
    of a strip are reached by `#` and their title.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A plot: one `<svg>` element, and a description for readers who can't see it."""

    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Column:
    """A frame as one run sees it.

    Attributes:
        pictures: the first over the whole width, the others below it.
        table: shown beside the last picture, where there is room.
        heading: name of the run, where there are two.
        scene: for the view in three dimensions, see `scene_json`; empty: none.
        notes: sentences below the pictures.
    """

    pictures: tuple[Picture, ...]
    table: Table | None = None
    heading: str = ""
    scene: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A frame of a strip: one column, or several to compare."""

    title: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Strip:
    """Frames, at least one, that can be played or viewed one by one; with the colours' names."""

    frames: tuple[Frame, ...]
    rate_hz: float = 10.0
    legend: tuple[tuple[str, Color], ...] = ()

    @property
    def has_scenes(self) -> bool:
        """Whether anything can be turned."""
        return any(column.scene for frame in self.frames for column in frame.columns)


@dataclass(frozen=True)
class Lines:
    """Sentences, one below the other."""

    texts: tuple[str, ...]


Part = Table | Drawing | Strip | Lines


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    heading: str
    parts: tuple[Part, ...]
    text: str = ""


@dataclass(frozen=True)
class Page:
    """Content of a page.

    Attributes:
        facts: names and values, shown as tiles.
        warning: warning in a red band, if any.
        notes: limits of the numbers, at the end.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    sections: Sequence[Section]
    warning: str = ""
    notes: tuple[str, ...] = ()


def render(page: Page) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kd3d_core.visual"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["strip"] = lambda part: isinstance(part, Strip)
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["lines"] = lambda part: isinstance(part, Lines)
    return environment.get_template("page.html.jinja").render(page=page)


def write_page(path: Path, page: Page) -> None:
    """Write the page, whole or not at all; `DataError` if the file can't be written."""
    write_whole(path, render(page).encode("utf-8"))
