"""The scene from above: point cloud, detections and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT
from kd3d_core.visual.colors import Color
from kd3d_core.visual.image import line_width, text_size, write

_BACKGROUND: Color = (18, 18, 18)
_RING_STEP_M = 10


@dataclass(frozen=True)
class BevView:
    """The part of the ground that a picture shows; x (forward) is right, y (left) is up.

    Attributes:
        width: width of the picture, pixels.
        x_range: nearest and farthest distance ahead, metres.
        y_range: rightmost (negative) and leftmost distance, metres.
    """

    width: int = 1242
    x_range: tuple[float, float] = (0.0, 70.0)
    y_range: tuple[float, float] = (-20.0, 20.0)

    @property
    def pixels_per_metre(self) -> float:
        """Scale of the picture."""
        return self.width / (self.x_range[1] - self.x_range[0])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        low, high = self.y_range
        return round((high - low) * self.pixels_per_metre), self.width

    def pixels(self, xy: np.ndarray) -> np.ndarray:
        """Column and row `(..., 2)` of ground positions `(..., 2)`."""
        column = (xy[..., 0] - self.x_range[0]) * self.pixels_per_metre
        row = (self.y_range[1] - xy[..., 1]) * self.pixels_per_metre
        return np.stack([column, row], -1)


def draw_cloud(view: BevView, points: np.ndarray) -> np.ndarray:
    """A new `(H, W, 3)` RGB picture with range rings and the points `(N, 3+)`, coloured by height.

    Points on the ground are darkest, those 3 m above it brightest.
    """
    height, width = view.size
    image = np.full((height, width, 3), _BACKGROUND, np.uint8)
    _draw_rings(image, view)
    pixel = np.floor(view.pixels(points[:, :2])).astype(int)
    inside = ((pixel >= 0) & (pixel < (width, height))).all(1)
    pixel, z = pixel[inside], points[inside, 2]
    order = np.argsort(z, kind="stable")  # the highest point of a pixel is the one seen
    level = np.clip((z[order] + KITTI_LIDAR_HEIGHT + 0.3) / 3.3 * 255, 0, 255).astype(np.uint8)
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    side = np.arange(line_width(image))
    columns = np.minimum(pixel[order, 0, None, None] + side, width - 1)
    rows = np.minimum(pixel[order, 1, None, None] + side[:, None], height - 1)
    image[rows, columns] = palette[level][:, None, None]
    _label_rings(image, view)
    return image


def draw_footprints(
    image: np.ndarray,
    view: BevView,
    boxes: np.ndarray,
    colors: Sequence[Color],
    thickness: int = 1,
) -> None:
    """Draw the outlines of boxes `(N, 7)` from above, in place, with a line from centre to front.

    `thickness` is in pixels of a picture as wide as KITTI's images.
    """
    width = line_width(image, thickness)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    corners = view.pixels(box_geometry.corners(boxes)[:, :4, :2])
    centers = view.pixels(boxes[:, :2])
    for outline, center, color in zip(corners, centers, colors, strict=True):
        polygon = np.rint(outline).astype(np.int32)
        cv2.polylines(image, [polygon], True, color, width, cv2.LINE_AA)
        front = np.rint((outline[0] + outline[1]) / 2).astype(int).tolist()
        cv2.line(image, np.rint(center).astype(int).tolist(), front, color, width, cv2.LINE_AA)


def _radii(view: BevView) -> range:
    return range(_RING_STEP_M, int(view.x_range[1]) + 1, _RING_STEP_M)


def _draw_rings(image: np.ndarray, view: BevView) -> None:
    origin = np.rint(view.pixels(np.zeros(2))).astype(int).tolist()
    for radius in _radii(view):
        pixels = round(radius * view.pixels_per_metre)
        cv2.circle(image, origin, pixels, (48, 48, 48), line_width(image), cv2.LINE_AA)


def _label_rings(image: np.ndarray, view: BevView) -> None:
    """Write each ring's radius onto it, as far left of the road as there is room."""
    for radius in _radii(view):
        text = f"{radius} m"
        width, height, below = text_size(image, text, 0.4)
        half = np.array([width, height + below]) / 2 + line_width(image, 3)
        margin_x, margin_y = half / view.pixels_per_metre
        nearest_x = max(view.x_range[0], 0) + margin_x
        if nearest_x >= radius:
            continue
        y = min(view.y_range[1] - margin_y, np.sqrt(radius**2 - nearest_x**2))
        place = np.array([np.sqrt(radius**2 - y**2), y])
        if place[0] > view.x_range[1] - margin_x or y < view.y_range[0] + margin_y:
            continue
        left, top = np.rint(view.pixels(place) - half).astype(int).tolist()
        right, bottom = np.rint(view.pixels(place) + half).astype(int).tolist()
        cv2.rectangle(image, (left, top), (right, bottom), _BACKGROUND, cv2.FILLED)
        baseline = (left + line_width(image, 3), bottom - line_width(image, 3) - below)
        write(image, text, baseline, (130, 130, 130), 0.4)
