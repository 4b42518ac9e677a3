"""A frame's points and image as networks read them."""

from collections.abc import Callable

import numpy as np
import torch

from kd3d_core.data.depth_view import true_depth_cloud
from kd3d_core.data.kitti import KittiFrame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import PseudoLidarConfig

PointSource = Callable[[KittiFrame], np.ndarray]
"""Gives a frame's points `(N, 4)`: true LiDAR (`lidar_points`) or pseudo-LiDAR."""

AnswerSource = Callable[[KittiFrame], dict[str, torch.Tensor] | None]
"""Gives what a teacher said about a frame, as tensors by name, of any length along their last
dimension; None for a frame that the teacher can't see."""


def true_depth_points(
    window: WindowConfig, settings: PseudoLidarConfig, within_px: float
) -> PointSource:
    """Gives pseudo-LiDAR of true depth, see `true_depth_cloud`; none for a frame without LiDAR."""

    def points(frame: KittiFrame) -> np.ndarray:
        return true_depth_cloud(lidar_points(frame), frame.camera(), window, settings, within_px)

    return points


def lidar_points(frame: KittiFrame) -> np.ndarray:
    """`(N, 4)` float32 of the LiDAR's points in the image; none if the frame has no LiDAR."""
    if not frame.has_lidar:
        return np.zeros((0, 4), np.float32)
    return frame.points_in_view()


def no_points(frame: KittiFrame) -> np.ndarray:
    """`(0, 4)` float32, for a detector that reads an image alone."""
    return np.zeros((0, 4), np.float32)


def image_tensor(image: np.ndarray) -> torch.Tensor:
    """`(1, 3, H, W)` float32, 0 to 255, of an `(H, W, 3)` uint8 image."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def windowed(
    frame: KittiFrame, config: WindowConfig
) -> tuple[torch.Tensor, PinholeCamera, np.ndarray]:
    """A frame's `(3, H, W)` image, 0 to 255, and its camera, both cut to a window.

    Also an `(H, W)` bool: False in the window's padding.
    """
    image = frame.image()
    camera = frame.camera(image.shape[:2])
    window = config.window(camera)
    seen = np.zeros((window.height, window.width), bool)
    top, bottom, left, right = window.inside(camera)
    seen[top:bottom, left:right] = True
    return window.extract(image_tensor(image))[0], window.camera(camera), seen
