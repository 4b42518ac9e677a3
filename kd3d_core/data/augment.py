"""Augmentation: drawn once per sample, applied to points, boxes, image and projection alike.

Whatever reads the sample afterwards (a detector on true points, another on pseudo-LiDAR, a depth
model) sees the same changed world, and every point still projects to the pixel that shows it.
"""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.photometric import change_light
from kd3d_core.data.photometric_config import PhotometricConfig
from kd3d_core.geometry.boxes import wrap_angle
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.window import ImageWindow


@dataclass(frozen=True)
class Augmentation:
    """A change that was drawn; the default changes nothing.

    In the detector frame: mirror y, then turn about +z, then scale about the origin. Before all
    that, `turned_view` turns the camera by `pitch` (down if positive) and `roll`, radians.
    """

    flip: bool = False
    angle: float = 0.0
    scale: float = 1.0
    image_scale: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    pitch: float = 0.0
    roll: float = 0.0
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
    light_seed: int = 0

    @property
    def new_from_old(self) -> torch.Tensor:
        """4x4 float64 that takes points of the old world to the new."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        mirror = -1.0 if self.flip else 1.0
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:2, :2] = torch.tensor([[cos, -sin * mirror], [sin, cos * mirror]])
        matrix[:3, :3] *= self.scale
        return matrix

    def points(self, points: torch.Tensor) -> torch.Tensor:
        """`(N, 3 + C)` points of the new world."""
        matrix = self.new_from_old.to(points)
        return torch.cat([points[:, :3] @ matrix[:3, :3].T, points[:, 3:]], 1)

    def boxes(self, boxes: torch.Tensor) -> torch.Tensor:
        """`(N, 7)` boxes of the new world."""
        yaw = wrap_angle((-boxes[:, 6] if self.flip else boxes[:, 6]) + self.angle)
        return torch.cat([self.points(boxes[:, :3]), boxes[:, 3:6] * self.scale, yaw[:, None]], 1)

    def image(
        self, image: torch.Tensor, image_from_lidar: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The changed image, and the projection of the new world into it.

        Args:
            image: `(3, H, W)` RGB, 0 to 255.
            image_from_lidar: `(3, 4)` of the old world and image.
        """
        new_image, image_matrix = self.image_only(image)
        old_from_new = torch.linalg.inv(self.new_from_old)
        projection = image_matrix @ image_from_lidar.double() @ old_from_new
        return new_image, projection.to(image_from_lidar)

    def image_only(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The changed `(C, H, W)` image and the 3x3 float64 from its old pixels to its new."""
        height, width = image.shape[-2:]
        matrix = torch.eye(3, dtype=torch.float64)
        zoom = self.image_scale
        if zoom != 1:
            left, top = round(width * (zoom - 1) / 2), round(height * (zoom - 1) / 2)
            image = ImageWindow(zoom, left, top, width, height).extract(image[None])[0]
            shift = 0.5 * zoom - 0.5
            matrix = torch.tensor(
                [[zoom, 0, shift - left], [0, zoom, shift - top], [0, 0, 1]], dtype=torch.float64
            )
        if self.flip:
            image = image.flip(-1)
            mirror = torch.tensor([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
            matrix = mirror.double() @ matrix
        image = self._colours(image)
        return change_light(image, self.photometric, self.light_seed), matrix

    def _colours(self, image: torch.Tensor) -> torch.Tensor:
        """Saturation about each pixel's grey, contrast about the mean grey, then brightness."""
        if (self.brightness, self.contrast, self.saturation) == (1, 1, 1):
            return image
        grey = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, True)
        image = grey + (image - grey) * self.saturation
        mean = grey.mean()
        image = (mean + (image - mean) * self.contrast) * self.brightness
        return image.clamp(0, 255)


def turned_view(
    image: torch.Tensor, camera: PinholeCamera, seen: np.ndarray, change: Augmentation
) -> tuple[torch.Tensor, PinholeCamera, np.ndarray]:
    """What a camera sees after it was turned by `change`'s pitch and roll.

    Args:
        image: `(C, H, W)` float32.
        camera: of that image.
        seen: `(H, W)` bool, pixels that show what the camera saw.

    Returns:
        The same three after the turn. What the old image didn't show is filled with its mirrored
        border, and isn't seen.
    """
    height, width = image.shape[-2:]
    if not change.pitch and not change.roll:
        return image, camera, seen
    sin, cos = math.sin(change.pitch), math.cos(change.pitch)
    down = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    sin, cos = math.sin(change.roll), math.cos(change.roll)
    lean = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    lens, turn = camera.projection[:, :3], lean @ down
    new_from_old = lens @ turn @ np.linalg.inv(lens)
    rows_last = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    warped = cv2.warpPerspective(
        rows_last, new_from_old, (width, height), borderMode=cv2.BORDER_REFLECT_101
    )
    still_seen = cv2.warpPerspective(seen.astype(np.uint8), new_from_old, (width, height))
    turned = torch.from_numpy(warped).permute(2, 0, 1)
    return turned, camera.turned(turn), still_seen.astype(bool)


def draw_augmentation(config: AugmentConfig, seed: int, epoch: int, index: int) -> Augmentation:
    """The change of one sample in one epoch, from these four alone."""
    (state,) = np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state >> 1))
    uniform = torch.rand(9, generator=generator, dtype=torch.float64).tolist()

    def between(low: float, high: float, draw: float) -> float:
        return low + (high - low) * draw

    return Augmentation(
        flip=uniform[0] < config.flip,
        angle=between(-config.rotation, config.rotation, uniform[1]),
        scale=between(*config.scale, uniform[2]),
        image_scale=between(*config.image_scale, uniform[3]),
        brightness=1 + between(-config.brightness, config.brightness, uniform[4]),
        contrast=1 + between(-config.contrast, config.contrast, uniform[5]),
        saturation=1 + between(-config.saturation, config.saturation, uniform[6]),
        pitch=between(-config.pitch, config.pitch, uniform[7]),
        roll=between(-config.roll, config.roll, uniform[8]),
        photometric=config.photometric,
        light_seed=0 if config.photometric == PhotometricConfig() else int(state >> 2),
    )
