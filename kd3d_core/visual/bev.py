"""The scene from above: cloud, detections and truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.visual.colors import Color
from kd3d_core.visual.image import write


@dataclass(frozen=True)
class BevView:
    """A picture's window on the ground: x forward is right, y left is up.

    Attributes:
        width: of the picture in pixels.
        x_range: metres ahead, nearest and farthest.
        y_range: metres, rightmost (negative) and leftmost.
    """

    width: int = 1242
    x_range: tuple[float, float] = (0.0, 70.0)
    y_range: tuple[float, float] = (-20.0, 20.0)

    @property
    def pixels_per_metre(self) -> float:
        """Scale."""
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


def draw_cloud(view: BevView, points: np.ndarray, ground_z: float = -1.73) -> np.ndarray:
    """A new `(H, W, 3)` RGB picture with range rings and the points, coloured by height.

    Args:
        view: what it shows.
        points: `(N, 3+)` in the detector frame.
        ground_z: height of the ground, drawn darkest; 3 m over it is brightest.
    """
    height, width = view.size
    image = np.full((height, width, 3), 18, np.uint8)
    _draw_rings(image, view)
    pixel = np.floor(view.pixels(points[:, :2])).astype(int)
    inside = ((pixel >= 0) & (pixel < (width, height))).all(1)
    pixel, z = pixel[inside], points[inside, 2]
    level = np.clip((z - ground_z + 0.3) / 3.3 * 255, 0, 255).astype(np.uint8)
    order = np.argsort(z, kind="stable")  # the highest point of a pixel is the one seen
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    image[pixel[order, 1], pixel[order, 0]] = palette[level[order]]
    return image


def draw_footprints(
    image: np.ndarray,
    view: BevView,
    boxes: np.ndarray,
    colors: Sequence[Color],
    thickness: int = 1,
) -> None:
    """Draw the outlines of `(N, 7)` boxes, in place, with a line from the centre to the front."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    corners = view.pixels(box_geometry.corners(boxes)[:, :4, :2])
    centers = view.pixels(boxes[:, :2])
    for outline, center, color in zip(corners, centers, colors, strict=True):
        polygon = np.rint(outline).astype(np.int32)
        cv2.polylines(image, [polygon], True, color, thickness, cv2.LINE_AA)
        front = np.rint((outline[0] + outline[1]) / 2).astype(int).tolist()
        cv2.line(image, np.rint(center).astype(int).tolist(), front, color, thickness, cv2.LINE_AA)


def _draw_rings(image: np.ndarray, view: BevView, step_m: int = 10) -> None:
    origin = np.rint(view.pixels(np.zeros(2))).astype(int).tolist()
    for radius in range(step_m, int(view.x_range[1]) + 1, step_m):
        pixels = round(radius * view.pixels_per_metre)
        cv2.circle(image, origin, pixels, (48, 48, 48), 1, cv2.LINE_AA)
        write(image, f"{radius} m", (origin[0] + pixels - 44, 16), (130, 130, 130), 0.4)
