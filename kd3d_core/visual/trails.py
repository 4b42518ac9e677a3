"""Where the objects of tracks have been, in pictures; and their ids, from above."""

import cv2
import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.tracking import Tracks
from kd3d_core.visual.bev import BevView
from kd3d_core.visual.colors import class_color
from kd3d_core.visual.image import line_width, write

_NEAR_M = 0.5
_TEXT_PX = 13


def draw_trails_in_image(image: np.ndarray, tracks: Tracks, camera: PinholeCamera) -> None:
    """Draw where objects have touched the ground on a rectified RGB image, in place."""
    matrix = camera.image_from_lidar
    homogeneous = tracks.trails @ matrix[:, :3].T + matrix[:, 3]
    homogeneous[homogeneous[..., 2] < _NEAR_M] = np.nan
    _draw_lines(image, tracks, homogeneous[..., :2] / homogeneous[..., 2:])


def draw_trails_above(image: np.ndarray, tracks: Tracks, view: BevView) -> None:
    """Draw where objects have been on the scene from above, and their ids, in place."""
    _draw_lines(image, tracks, view.pixels(tracks.trails[..., :2]))
    offset = line_width(image, 6)
    places = np.rint(view.pixels(tracks.boxes[:, :2])).astype(int) + np.array([offset, -offset])
    for number, name, place in zip(tracks.ids, tracks.names, places.tolist(), strict=True):
        write(image, str(number), (place[0], place[1]), class_color(name), _TEXT_PX)


def _draw_lines(image: np.ndarray, tracks: Tracks, pixels: np.ndarray) -> None:
    """Lines through pixels `(T, K, 2)` as far as they are finite, in the colours of the classes."""
    for name, trail in zip(tracks.names, pixels, strict=True):
        seen = trail[np.isfinite(trail).all(1)]
        line = np.clip(np.rint(seen), -1e4, 1e4).astype(np.int32)
        cv2.polylines(image, [line], False, class_color(name), line_width(image), cv2.LINE_AA)
