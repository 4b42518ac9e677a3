"""Boxes drawn on images, in lines and letters whose size follows the image's."""

from collections.abc import Sequence

import cv2
import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.visual.colors import Color
from kd3d_core.visual.text import text_extent, write_text

_NEAR_M = 0.1
_REFERENCE_PX = 1242
"""Longer side of an image at which sizes are as they are written here: KITTI's."""
_TEXT_PX = 15
_LEAST_TEXT_PX = 7
_CAVEAT_PX = 20
_SMALL_PX = 30
"""Boxes that are smaller in the image have thin lines."""
_FACE_SHARE = 0.35
_FRONT = [0, 1, 5, 4]  # corners
_DARK: Color = (16, 16, 16)
CAVEAT_COLOR: Color = (255, 96, 88)
NOTE_COLOR: Color = (255, 209, 92)

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom."""


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
    filled: bool = True,
) -> None:
    """Draw boxes `(N, 7)` on a rectified `(H, W, 3)` RGB image, in place, later ones on top.

    The front face is filled. Of texts over the boxes, later ones have priority: a text that would
    cover another is moved up, or left out where there is no room.
    """
    corners = box_geometry.corners(np.asarray(boxes, np.float64).reshape(-1, 7))
    matrix = camera.image_from_lidar
    homogeneous = corners @ matrix[:, :3].T + matrix[:, 3]
    labels = []
    for index, box in enumerate(homogeneous):
        if (box[:, 2] < _NEAR_M).all():
            continue
        if filled:
            fill(image, _clip_face(box[_FRONT]), colors[index], _FACE_SHARE)
        _draw_edges(image, box, colors[index], 2 if filled else 1)
        if texts:
            seen = box[box[:, 2] >= _NEAR_M]
            labels.append((texts[index], seen[:, :2] / seen[:, 2:], colors[index]))
    _tag_apart(image, labels[::-1])


def fill(image: np.ndarray, polygon: np.ndarray, color: Color, share: float) -> None:
    """Lay a colour over a convex polygon `(N, 2)` of pixels, in place; nothing if N is below 3."""
    if len(polygon) < 3:
        return
    height, width = image.shape[:2]
    low = np.clip(np.floor(polygon.min(0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(polygon.max(0)) + 1, 0, (width, height)).astype(int)
    if (high <= low).any():
        return
    part = image[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(part.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.rint(polygon - low).astype(np.int32), 255, cv2.LINE_AA)
    weight = mask[..., None] * np.float32(share / 255)
    part[:] = np.rint(part + weight * (np.array(color, np.float32) - part))


def text_size(image: np.ndarray, text: str, size: float = _TEXT_PX) -> tuple[int, int, int]:
    """Width, height over the baseline, and depth below it, of what `write` draws, pixels."""
    return text_extent(text, round(size * drawing_scale(image)))


def write(
    image: np.ndarray,
    text: str,
    position: tuple[int, int],
    color: Color,
    size: float = _TEXT_PX,
) -> None:
    """Write text with a dark outline, in place; `position` is its left end on the baseline.

    `size` is the height of the typeface in pixels, in an image of KITTI's size.
    """
    write_text(image, text, position, color, round(size * drawing_scale(image)))


def tag(image: np.ndarray, text: str, corner: tuple[int, int], color: Color) -> None:
    """Write on a ground of `color`, in place; `corner` is the upper left one of `tag_size`."""
    width, height = tag_size(image, text)
    gap = line_width(image, 3)
    column, row = corner
    cv2.rectangle(image, corner, (column + width - 1, row + height - 1), color, cv2.FILLED)
    dark = np.dot(color, (0.299, 0.587, 0.114)) > 110
    _, above, _ = text_size(image, text)
    write_text(
        image, text, (column + gap, row + gap + above), _DARK if dark else (255, 255, 255),
        round(_TEXT_PX * drawing_scale(image)), outline=False,
    )  # fmt: skip


def tag_size(image: np.ndarray, text: str) -> tuple[int, int]:
    """Width and height of a tag, pixels."""
    width, above, _ = text_size(image, text)
    gap = line_width(image, 3)
    return width + 2 * gap, above + 2 * gap


def write_remarks(image: np.ndarray, caveat: str, notes: Sequence[str]) -> None:
    """Write into the upper left corner why not to trust it, and how its camera is known."""
    lines: list[tuple[str, Color, float]] = []
    if caveat:
        lines.append((caveat, CAVEAT_COLOR, _CAVEAT_PX))
    lines += [(note, NOTE_COLOR, _TEXT_PX) for note in notes]
    left, gap = line_width(image, 8), line_width(image, 3)
    top = 0
    for text, color, largest in lines:
        size = _fitting(image, text, largest)
        width, above, below = text_size(image, text, size)
        bottom = top + above + below + 2 * gap
        right = left + width + left
        fill(image, np.array([[0, top], [right, top], [right, bottom], [0, bottom]]), _DARK, 0.6)
        write(image, text, (left, top + gap + above), color, size)
        top = bottom + 1


def _fitting(image: np.ndarray, text: str, size: float) -> float:
    """The size, or a smaller one at which a text is no wider than the image."""
    room = image.shape[1] - 2 * line_width(image, 8)
    while size > _LEAST_TEXT_PX and text_size(image, text, size)[0] > room:
        size -= 1
    return size


def _draw_edges(image: np.ndarray, box: np.ndarray, color: Color, thickness: int) -> None:
    lines = [_clip_near(box[start], box[end]) for start, end in box_geometry.EDGES]
    seen = [line for line in lines if line is not None]
    reach = np.ptp(np.array(seen).reshape(-1, 2), axis=0).max()
    width = line_width(image, 1 if reach < _SMALL_PX * drawing_scale(image) else thickness)
    for pixels, shade in ((width + line_width(image, 2), _DARK), (width, color)):
        for line in seen:
            cv2.line(image, *line, shade, pixels, cv2.LINE_AA)


def _tag_apart(image: np.ndarray, labels: Sequence[tuple[str, np.ndarray, Color]]) -> None:
    """Tag each box above its pixels `(N, 2)` where that covers no tag before it."""
    height, width = image.shape[:2]
    gap = line_width(image, 2)
    taken: list[Rectangle] = []
    for text, pixels, color in labels:
        (left, top), (right, bottom) = pixels.min(0), pixels.max(0)
        if right < 0 or left >= width or bottom < 0 or top >= height:
            continue
        tag_width, tag_height = tag_size(image, text)
        column = int(np.clip(left, 0, max(width - tag_width, 0)))
        lowest = int(max(top - gap - tag_height, 0))
        for row in (lowest, lowest - tag_height - gap, lowest - 2 * (tag_height + gap)):
            place = (column, row, column + tag_width, row + tag_height)
            if row >= 0 and not any(overlap(place, other) for other in taken):
                tag(image, text, (column, row), color)
                taken.append(place)
                break


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Whether two rectangles have pixels in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _clip_face(face: np.ndarray) -> np.ndarray:
    """Pixels `(N, 2)` of the part in front of the camera of a polygon of homogeneous pixels."""
    clipped = []
    for start, end in zip(face, np.roll(face, -1, 0), strict=True):
        if start[2] >= _NEAR_M:
            clipped.append(start)
        if (start[2] >= _NEAR_M) != (end[2] >= _NEAR_M):
            clipped.append(start + (_NEAR_M - start[2]) / (end[2] - start[2]) * (end - start))
    if not clipped:
        return np.zeros((0, 2))
    points = np.array(clipped)
    return np.clip(points[:, :2] / points[:, 2:], -1e4, 1e4)


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
