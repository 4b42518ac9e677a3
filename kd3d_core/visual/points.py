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
    pixels = np.rint(pixels).astype(int)
    level = np.clip(255 * (1 - depth / _FARTHEST_M), 0, 255).astype(np.uint8)
    palette = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_JET)[:, 0, ::-1]
    radius = max(1, round(camera.width / 1200))
    for index in np.argsort(-depth, kind="stable"):
        color = palette[level[index]].tolist()
        cv2.circle(image, tuple(pixels[index].tolist()), radius, color, -1, cv2.LINE_AA)
