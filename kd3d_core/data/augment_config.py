"""AugmentConfig: how much samples may change, as `config/train/*.yaml` say it."""

import math
from dataclasses import dataclass, field

from kd3d_core.data.photometric_config import PhotometricConfig
from kd3d_core.errors import ConfigError


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
        pitch, roll: largest turn of the camera about its centre, radians, up to 0.2: it looks
            further up or down, or leans. The image is warped, and its horizon lies elsewhere.
        photometric: strong changes of light and camera, besides.
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
    pitch: float = 0.0
    roll: float = 0.0
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)
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
        for name in ("pitch", "roll"):
            if not 0 <= getattr(self, name) <= 0.2:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}: give the camera's largest turn in radians, "
                    "0 to 0.2 (11 degrees); beyond, most of the image would be made up"
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
