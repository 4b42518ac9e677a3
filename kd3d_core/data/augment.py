"""Augmentation: drawn once per sample, applied to points, boxes, image and projection alike.

Whatever reads the sample afterwards (a detector on true points, another on pseudo-LiDAR, a depth
model) sees the same changed world, and every point still projects to the pixel that shows it.
"""

import math
from dataclasses import dataclass, field

import torch

from kd3d_core.errors import ConfigError
from kd3d_core.geometry.boxes import wrap_angle
from kd3d_core.geometry.window import ImageWindow


@dataclass(frozen=True)
class AugmentConfig:
    """How much a sample may change.

    Attributes:
        flip: probability of mirroring left and right.
        rotation: largest turn about +z, radians, up to pi.
        scale: smallest and largest factor on the world's size, within 0.1 to 10.
        image_scale: smallest and largest zoom of the image about its centre, within 0.1 to 10.
        brightness, contrast, saturation: largest relative change of each, below 1: at 0.2 the
            factor is drawn from 0.8 to 1.2.
        sample_objects: by class, how many objects a frame is filled up to with labelled ones of
            other frames (ground-truth sampling); for detectors that read true LiDAR alone.
        min_object_points: objects with fewer points aren't sampled.
    """

    flip: float = 0.5
    rotation: float = math.pi / 4
    scale: tuple[float, float] = (0.95, 1.05)
    image_scale: tuple[float, float] = (1.0, 1.0)
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    sample_objects: dict[str, int] = field(default_factory=dict)
    min_object_points: int = 5

    def __post_init__(self) -> None:
        for name in ("scale", "image_scale"):
            low, high = getattr(self, name)
            if not 0.1 <= low <= high <= 10:
                raise ConfigError(
                    f"{name} is [{low}, {high}]: give the smallest and the largest factor, "
                    "within 0.1 to 10, such as [0.95, 1.05]"
                )
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is {self.flip}: give a probability, 0 to 1")
        if not 0 <= self.rotation <= math.pi:
            raise ConfigError(
                f"rotation is {self.rotation}: give the largest turn in radians, 0 to pi"
            )
        for name in ("brightness", "contrast", "saturation"):
            change = getattr(self, name)
            if not 0 <= change < 1:
                raise ConfigError(
                    f"{name} is {change}: give the largest relative change, from 0 to below 1 "
                    "(0.2: factors from 0.8 to 1.2); a factor of 0 or less leaves no image"
                )
        if self.min_object_points < 1 or any(n < 1 for n in self.sample_objects.values()):
            raise ConfigError("sample_objects and min_object_points must be 1 or more")

    def draw(self, generator: torch.Generator) -> "Augmentation":
        """One change of the world, from `generator` alone."""
        uniform = torch.rand(7, generator=generator, dtype=torch.float64).tolist()

        def between(low: float, high: float, draw: float) -> float:
            return low + (high - low) * draw

        return Augmentation(
            flip=uniform[0] < self.flip,
            angle=between(-self.rotation, self.rotation, uniform[1]),
            scale=between(*self.scale, uniform[2]),
            image_scale=between(*self.image_scale, uniform[3]),
            brightness=1 + between(-self.brightness, self.brightness, uniform[4]),
            contrast=1 + between(-self.contrast, self.contrast, uniform[5]),
            saturation=1 + between(-self.saturation, self.saturation, uniform[6]),
        )


@dataclass(frozen=True)
class Augmentation:
    """A change that was drawn; the default changes nothing.

    In the detector frame: mirror y, then turn about +z, then scale about the origin.
    """

    flip: bool = False
    angle: float = 0.0
    scale: float = 1.0
    image_scale: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

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
        return self._colours(image), matrix

    def _colours(self, image: torch.Tensor) -> torch.Tensor:
        """Saturation about each pixel's grey, contrast about the mean grey, then brightness."""
        if (self.brightness, self.contrast, self.saturation) == (1, 1, 1):
            return image
        grey = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, True)
        image = grey + (image - grey) * self.saturation
        mean = grey.mean()
        image = (mean + (image - mean) * self.contrast) * self.brightness
        return image.clamp(0, 255)
