"""Boxes and text drawn on images, in lines and letters whose size follows the image's."""

from collections.abc import Sequence

import cv2
import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.visual.colors import Color

_NEAR_M = 0.1
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_REFERENCE_PX = 1242
"""Longer side of an image in which lines are one pixel wide: KITTI's."""


def drawing_scale(image: np.ndarray) -> float:
    """How much larger than in KITTI's images lines and letters are drawn; at least 1."""
    return max(1.0, max(image.shape[:2]) / _REFERENCE_PX)


def line_width(image: np.ndarray, thickness: int = 1) -> int:
    """Pixels of a line that has `thickness` in KITTI's images."""
    return round(thickness * drawing_scale(image))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    camera: PinholeCamera,
    colors: Sequence[Color],
    texts: Sequence[str] = (),
) -> None:
    """Draw wireframes of boxes `(N, 7)` on a rectified `(H, W, 3)` RGB image, in place.

    The front face has a cross. Of texts over the boxes, later ones have priority: a text that
    would cover another is moved up, or left out where there is no room.
    """
    width = line_width(image)
    corners = box_geometry.corners(np.asarray(boxes, np.float64).reshape(-1, 7))
    matrix = camera.image_from_lidar
    homogeneous = corners @ matrix[:, :3].T + matrix[:, 3]
    front_cross = np.array([[0, 5], [1, 4]])
    edges = np.concatenate([box_geometry.EDGES, front_cross])
    labels = []
    for index, box in enumerate(homogeneous):
        if (box[:, 2] < _NEAR_M).all():
            continue
        for start, end in edges:
            line = _clip_near(box[start], box[end])
            if line is not None:
                cv2.line(image, *line, colors[index], width, cv2.LINE_AA)
        if texts:
            seen = box[box[:, 2] >= _NEAR_M]
            labels.append((texts[index], seen[:, :2] / seen[:, 2:], colors[index]))
    _write_apart(image, labels[::-1])


def text_size(image: np.ndarray, text: str, size: float = _FONT_SCALE) -> tuple[int, int, int]:
    """Width, height over the baseline, and depth below it, of what `write` draws, pixels."""
    (width, height), below = cv2.getTextSize(
        text, _FONT, size * drawing_scale(image), line_width(image)
    )
    return width, height, below


def write(
    image: np.ndarray,
    text: str,
    position: tuple[int, int],
    color: Color,
    size: float = _FONT_SCALE,
) -> None:
    """Write ASCII text with a dark outline, in place; `position` is its left end on the baseline.

    `size` is OpenCV's font scale, in an image of KITTI's size.
    """
    scale, width = size * drawing_scale(image), line_width(image)
    cv2.putText(image, text, position, _FONT, scale, (0, 0, 0), 3 * width, cv2.LINE_AA)
    cv2.putText(image, text, position, _FONT, scale, color, width, cv2.LINE_AA)


def _write_apart(image: np.ndarray, labels: Sequence[tuple[str, np.ndarray, Color]]) -> None:
    """Write each text above its pixels `(N, 2)` where it covers no text before it."""
    height, width = image.shape[:2]
    gap = line_width(image, 2)
    taken: list[tuple[int, int, int, int]] = []
    for text, pixels, color in labels:
        (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
        if right < 0 or left >= width or bottom < 0 or top >= height:
            continue
        text_width, text_height, below = text_size(image, text)
        column = int(np.clip(left, 0, max(width - text_width, 0)))
        row = int(max(top - 2 * gap, text_height + gap))
        for baseline in (row, row - text_height - below, row - 2 * (text_height + below)):
            place = (column, baseline - text_height, column + text_width, baseline + below)
            if place[1] >= 0 and not any(_overlap(place, other) for other in taken):
                write(image, text, (column, baseline), color)
                taken.append(place)
                break


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Whether two rectangles (left, top, right, bottom) have pixels in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def write_caveat(image: np.ndarray, text: str) -> None:
    """Write into the upper left corner why not to trust what the picture shows."""
    write(image, text, (line_width(image, 8), line_width(image, 22)), (255, 70, 70), 0.7)


def _clip_near(
    start: np.ndarray, end: np.ndarray
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The pixels of a segment in front of the camera; None if all of it is behind."""
    if start[2] < _NEAR_M and end[2] < _NEAR_M:
        return None
    if start[2] < _NEAR_M:
        start, end = end, start
    if end[2] < _NEAR_M:
        end = start + (start[2] - _NEAR_M) / (start[2] - end[2]) * (end - start)
    # A nearly touching segment can end millions of pixels away; OpenCV's lines are int32.
    pixels = np.clip(np.stack([start[:2] / start[2], end[:2] / end[2]]), -1e4, 1e4)
    (u0, v0), (u1, v1) = np.rint(pixels).astype(int).tolist()
    return (u0, v0), (u1, v1)
