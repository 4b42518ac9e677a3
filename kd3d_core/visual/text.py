"""Text in pictures: the typeface that Pillow brings, smooth at any size."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kd3d_core.visual.colors import Color

_DARK: Color = (16, 16, 16)


def text_extent(text: str, height_px: int) -> tuple[int, int, int]:
    """Width, height over the baseline and depth below it, in pixels, of letters of that height."""
    left, top, right, _ = _font(height_px).getbbox(text, anchor="ls")
    above, below = _font(height_px).getmetrics()
    return round(right - min(left, 0)), max(round(-top), round(0.75 * above)), below


def write_text(
    image: np.ndarray, text: str, position: tuple[int, int], color: Color, height_px: int,
    outline: bool = True,
) -> None:  # fmt: skip
    """Write into a `(H, W, 3)` RGB image, in place; what reaches over its border is cut off.

    Args:
        image: the picture.
        text: one line.
        position: column and row of the left end of the baseline.
        color: of the letters.
        height_px: of the typeface.
        outline: whether letters have a dark edge, to be read on anything.
    """
    if outline:
        edge = max(1, round(height_px / 14))
        _blend(image, *_mask(text, height_px, edge), position, _DARK)
    _blend(image, *_mask(text, height_px, 0), position, color)


@lru_cache(maxsize=64)
def _font(height_px: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(height_px)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels and Debian's have FreeType"
    return font


@lru_cache(maxsize=1024)
def _mask(text: str, height_px: int, edge: int) -> tuple[np.ndarray, tuple[int, int]]:
    """How much of each pixel is letter `(h, w)`, 0 to 1, and where it lies by the baseline."""
    font = _font(height_px)
    left, top, right, bottom = (
        round(each) for each in font.getbbox(text, anchor="ls", stroke_width=edge)
    )
    canvas = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(canvas).text((-left, -top), text, 255, font, anchor="ls", stroke_width=edge)
    return np.asarray(canvas, np.float32) / 255, (left, top)


def _blend(
    image: np.ndarray, mask: np.ndarray, offset: tuple[int, int], position: tuple[int, int],
    color: Color,
) -> None:  # fmt: skip
    column, row = position[0] + offset[0], position[1] + offset[1]
    left, top = max(column, 0), max(row, 0)
    right = min(column + mask.shape[1], image.shape[1])
    bottom = min(row + mask.shape[0], image.shape[0])
    if right <= left or bottom <= top:
        return
    part = image[top:bottom, left:right]
    share = mask[top - row : bottom - row, left - column : right - column, None]
    part[:] = np.rint(part + share * (np.array(color, np.float32) - part))
