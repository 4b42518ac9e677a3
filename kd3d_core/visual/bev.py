"""The scene from above, forward up: point cloud, field of view, detections and labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT
from kd3d_core.visual.colors import Color
from kd3d_core.visual.image import Rectangle, fill, line_width, overlap, text_size, write

_BACKGROUND: Color = (18, 18, 18)
_SEEN: Color = (30, 31, 34)
_RING: Color = (58, 58, 62)
_RING_TEXT: Color = (150, 150, 150)
_EGO: Color = (235, 235, 235)
_RING_STEP_M = 10
_DARKEST = 50  # of 255, where the palette can be told from the ground
_TEXT_PX = 13
_EGO_OUTLINE = np.array([[0.5, 0.0], [-2.5, 1.0], [-1.9, 0.0], [-2.5, -1.0]])
"""An arrow whose tip is the camera, metres forward and left."""
_BOX_SHARE = 0.3


@dataclass(frozen=True)
class BevView:
    """The part of the ground that a picture shows; x (forward) is up, y (left) is left.

    Attributes:
        width: of the picture, pixels; what it shows to both sides follows from it.
        height: of the picture, pixels.
        farthest_m: distance ahead at the upper border, metres.
        behind_m: distance behind the origin at the lower border, metres.
    """

    width: int = 600
    height: int = 520
    farthest_m: float = 60.0
    behind_m: float = 4.0

    @property
    def pixels_per_metre(self) -> float:
        """Scale of the picture."""
        return self.height / (self.farthest_m + self.behind_m)

    def pixels(self, xy: np.ndarray) -> np.ndarray:
        """Column and row `(..., 2)` of ground positions `(..., 2)`."""
        column = self.width / 2 - xy[..., 1] * self.pixels_per_metre
        row = (self.farthest_m - xy[..., 0]) * self.pixels_per_metre
        return np.stack([column, row], -1)

    def shows(self, xy: np.ndarray) -> np.ndarray:
        """Mask `(...)` of the ground positions `(..., 2)` in the picture."""
        pixels = self.pixels(xy)
        inside = (pixels >= 0) & (pixels < (self.width, self.height))
        return np.asarray(inside.all(-1))


def draw_cloud(
    view: BevView, points: np.ndarray, camera: PinholeCamera | None = None
) -> np.ndarray:
    """A new `(H, W, 3)` RGB picture with range rings and the points `(N, 3+)`, coloured by height.

    Points on the ground are darkest, those 3 m above it brightest. With a camera its field of view
    is lighter than the rest, and an arrow stands where it is.
    """
    image = np.full((view.height, view.width, 3), _BACKGROUND, np.uint8)
    if camera is not None:
        fill(image, view.pixels(_field_of_view(view, camera)), _SEEN, 1.0)
    _draw_rings(image, view)
    inside = view.shows(points[:, :2])
    pixel, z = np.floor(view.pixels(points[inside, :2])).astype(int), points[inside, 2]
    order = np.argsort(z, kind="stable")  # the highest point of a pixel is the one seen
    height = np.clip((z[order] + KITTI_LIDAR_HEIGHT + 0.3) / 3.3, 0, 1)
    level = (_DARKEST + (255 - _DARKEST) * height).astype(np.uint8)
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    side = np.arange(line_width(image))
    columns = np.minimum(pixel[order, 0, None, None] + side, view.width - 1)
    rows = np.minimum(pixel[order, 1, None, None] + side[:, None], view.height - 1)
    image[rows, columns] = palette[level][:, None, None]
    _label_rings(image, view)
    if camera is not None:
        _draw_ego(image, view, camera)
    return image


def draw_footprints(
    image: np.ndarray,
    view: BevView,
    boxes: np.ndarray,
    colors: Sequence[Color],
    texts: Sequence[str] = (),
    filled: bool = True,
) -> None:
    """Draw boxes `(N, 7)` from above, in place, with a line from centre to front.

    Texts stand beside the boxes; of texts that would cover each other the later one is written.
    """
    width = line_width(image, 2)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    corners = view.pixels(box_geometry.corners(boxes)[:, :4, :2])
    centers = view.pixels(boxes[:, :2])
    for outline, center, color in zip(corners, centers, colors, strict=True):
        if filled:
            fill(image, outline, color, _BOX_SHARE)
        polygon = np.rint(outline).astype(np.int32)
        cv2.polylines(image, [polygon], True, color, width if filled else 1, cv2.LINE_AA)
        front = np.rint((outline[0] + outline[1]) / 2).astype(int).tolist()
        cv2.line(image, np.rint(center).astype(int).tolist(), front, color, width, cv2.LINE_AA)
    if texts:
        labels = list(zip(texts, corners, colors, strict=True))
        _write_beside(image, labels[::-1])


def _write_beside(image: np.ndarray, labels: Sequence[tuple[str, np.ndarray, Color]]) -> None:
    height, width = image.shape[:2]
    gap = line_width(image, 4)
    taken: list[Rectangle] = []
    for text, outline, color in labels:
        (left, top), (right, bottom) = outline.min(0), outline.max(0)
        text_width, text_height, _ = text_size(image, text, _TEXT_PX)
        baseline = round((top + bottom + text_height) / 2)
        for column in (round(right) + gap, round(left) - gap - text_width):
            place = (column, baseline - text_height, column + text_width, baseline)
            inside = min(place) >= 0 and place[2] < width and place[3] < height
            if inside and not any(overlap(place, other) for other in taken):
                write(image, text, (column, baseline), color, _TEXT_PX)
                taken.append(place)
                break


def _field_of_view(view: BevView, camera: PinholeCamera) -> np.ndarray:
    """`(3, 2)`, forward and left: what lies between the image's left and right border."""
    reach = 2 * (view.farthest_m + view.width / view.pixels_per_metre)
    middle = camera.projection[1, 2]
    borders = np.array([[-0.5, middle], [camera.width - 0.5, middle]])
    rays = camera.unproject(borders, np.ones(2))[:, :2] - _camera_place(camera)
    return _camera_place(camera) + np.concatenate([np.zeros((1, 2)), reach * rays])


def _camera_place(camera: PinholeCamera) -> np.ndarray:
    return camera.rays[1][:2]


def _draw_ego(image: np.ndarray, view: BevView, camera: PinholeCamera) -> None:
    ahead = camera.lidar_from_camera[:2, 2]
    ahead = ahead / max(float(np.hypot(*ahead)), 1e-9)
    turn = np.array([[ahead[0], -ahead[1]], [ahead[1], ahead[0]]])
    outline = view.pixels(_EGO_OUTLINE @ turn.T + _camera_place(camera))
    cv2.fillPoly(image, [np.rint(outline).astype(np.int32)], _EGO, cv2.LINE_AA)


def _radii(view: BevView) -> range:
    return range(_RING_STEP_M, int(view.farthest_m) + 1, _RING_STEP_M)


def _draw_rings(image: np.ndarray, view: BevView) -> None:
    origin = np.rint(view.pixels(np.zeros(2))).astype(int).tolist()
    for radius in _radii(view):
        pixels = round(radius * view.pixels_per_metre)
        cv2.circle(image, origin, pixels, _RING, line_width(image), cv2.LINE_AA)


def _label_rings(image: np.ndarray, view: BevView) -> None:
    """Write each ring's radius onto it, as far right of the road as there is room."""
    for radius in _radii(view):
        text = f"{radius} m"
        width, height, _ = text_size(image, text, _TEXT_PX)
        half = np.array([width, height]) / 2 + line_width(image, 3)
        margin_y, margin_x = half / view.pixels_per_metre
        side = view.width / 2 / view.pixels_per_metre - margin_y
        y = -min(side, np.sqrt(radius**2 - min(margin_x, radius) ** 2))
        place = np.array([np.sqrt(radius**2 - y**2), y])
        if place[0] > view.farthest_m - margin_x:
            continue
        left, top = np.rint(view.pixels(place) - half).astype(int).tolist()
        right, bottom = np.rint(view.pixels(place) + half).astype(int).tolist()
        cv2.rectangle(image, (left, top), (right, bottom), _BACKGROUND, cv2.FILLED)
        baseline = (left + line_width(image, 3), bottom - line_width(image, 3))
        write(image, text, baseline, _RING_TEXT, _TEXT_PX)
