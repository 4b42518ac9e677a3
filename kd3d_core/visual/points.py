"""LiDAR points drawn on the camera's image."""

import cv2
import numpy as np

from kd3d_core.geometry.camera import PinholeCamera

_FARTHEST_M = 60.0


def draw_points(image: np.ndarray, points: np.ndarray, camera: PinholeCamera) -> None:
    """Draw points on `image`, in place, from red (near) to blue (60 m and farther).

    Args:
        image: `(H, W, 3)` uint8 RGB, contiguous.
        points: `(N, 3+)` in the detector frame; those outside of the image are left out.
    """
    points = points[:, :3].astype(np.float64)
    pixels, depth = camera.project(points[camera.sees(points)])
    nearest_last = np.argsort(-depth, kind="stable")
    pixels, depth = np.rint(pixels[nearest_last]).astype(int), depth[nearest_last]
    level = np.clip(255 * (1 - depth / _FARTHEST_M), 0, 255).astype(np.uint8)
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_JET)[:, 0, ::-1]
    disc = _disc(max(1, round(camera.width / 1200)))
    columns, rows = (pixels[:, None] + disc).reshape(-1, 2).T
    inside = (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    # Where several are given for one pixel, the last stays.
    image[rows[inside], columns[inside]] = palette[level].repeat(len(disc), 0)[inside]


def _disc(radius: int) -> np.ndarray:
    """`(K, 2)` steps from the middle of a disc to its pixels."""
    steps = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).T
    disc: np.ndarray = steps[(steps**2).sum(1) <= radius**2]
    return disc
