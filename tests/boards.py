"""Frames of a few boards before a wall, as a camera and a LiDAR beside it see them."""

from functools import cache

import numpy as np

from kd3d_core.extract.summary import Sample
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.points import transform

WIDTH, HEIGHT, FOCAL = 960, 400, 700.0
LIDAR_FROM_CAMERA = np.array([[0, 0, 1, 0.3], [-1, 0, 0, 0.05], [0, -1, 0, -0.1], [0, 0, 0, 1.0]])
CAMERA = PinholeCamera(
    np.array([[FOCAL, 0, WIDTH / 2, 0], [0, FOCAL, HEIGHT / 2, 0], [0, 0, 1, 0]]),
    WIDTH,
    HEIGHT,
    LIDAR_FROM_CAMERA,
)


@cache
def boards(seed: int) -> Sample:
    """A few upright boards of different greys before a far wall."""
    rng = np.random.default_rng(seed)
    depth = np.sort(rng.uniform(6, 18, 14))[::-1]
    left = rng.uniform(-0.7, 0.6, 14) * depth
    top = rng.uniform(-0.25, 0.15, 14) * depth
    right, bottom = left + rng.uniform(1, 2.5, 14), top + rng.uniform(0.8, 2, 14)
    boxes = np.stack([left, top, right, bottom], -1)
    image = np.full((HEIGHT, WIDTH), 90.0)
    for each, box in zip(depth, boxes, strict=True):
        u0, u1 = (np.round(FOCAL * box[[0, 2]] / each + WIDTH / 2).clip(0, WIDTH)).astype(int)
        v0, v1 = (np.round(FOCAL * box[[1, 3]] / each + HEIGHT / 2).clip(0, HEIGHT)).astype(int)
        image[v0:v1, u0:u1] = rng.uniform(0, 255)
    image += rng.normal(0, 3, image.shape)
    azimuth, elevation = np.meshgrid(
        np.radians(np.arange(-38, 38, 0.15)), np.radians(np.arange(-18, 18, 0.35))
    )
    rays = np.stack([np.tan(-azimuth), np.tan(-elevation) / np.cos(azimuth)], -1).reshape(-1, 2)
    # Seen from the LiDAR, whose place isn't the camera's.
    offset = np.linalg.inv(LIDAR_FROM_CAMERA)[:3, 3]
    ranges = np.full(len(rays), 40.0)
    for each, box in zip(depth, boxes, strict=True):
        places = rays * (each - offset[2]) + offset[:2]
        inside = ((places > box[:2]) & (places < box[2:])).all(1)
        ranges[inside] = each - offset[2]
    hits = np.column_stack([rays * ranges[:, None], ranges]) + offset
    points = np.zeros((len(hits), 4), np.float32)
    points[:, :3] = transform(hits, LIDAR_FROM_CAMERA)
    pixels = np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    return Sample(f"{seed:06d}", pixels, CAMERA, points)
