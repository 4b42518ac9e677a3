"""A spinning LiDAR with the beams of KITTI's HDL-64E."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.data.synthetic import materials
from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.raycast import Hits, RayCaster
from kd3d_core.errors import ConfigError

_RANGE_M = 120.0
_SURE_RANGE_M, _SURE_REFLECTANCE = 50.0, 0.10
"""The HDL-64E's data sheet: it sees a surface of 10 % reflectance at 50 m."""
_LOST = 0.02  # share of shots without an answer for no visible reason


@dataclass(frozen=True)
class LidarConfig:
    """Scan of the LiDAR.

    Attributes:
        azimuth_step: degrees between shots; 0.1728 is what 10 turns a second give.
        field: degrees of azimuth that are scanned, centred ahead; 360 is the whole turn. The
            street ends 45 m behind the car.
        range_noise: standard deviation of the range in metres.
        dropout: whether shots get lost, by range, angle, and material.
    """

    azimuth_step: float = 0.1728
    field: float = 90.0
    range_noise: float = 0.02
    dropout: bool = True

    def __post_init__(self) -> None:
        if not 0.02 <= self.azimuth_step <= 5:
            raise ConfigError(f"azimuth step {self.azimuth_step:g} degrees: give 0.02 to 5")
        if not 1 <= self.field <= 360:
            raise ConfigError(f"LiDAR field {self.field:g} degrees: give 1 to 360")
        if not 0 <= self.range_noise <= 1:
            raise ConfigError(f"range noise {self.range_noise:g} m: give 0 to 1")


@dataclass(frozen=True, eq=False)
class Scan:
    """What comes back of a turn.

    Attributes:
        points: `(N, 4)` float32 x, y, z in the LiDAR frame and intensity in [0, 1].
        owner: `(N,)` int16 index of the object that was hit, -1 for the street.
    """

    points: np.ndarray
    owner: np.ndarray


def beam_elevations() -> np.ndarray:
    """`(64,)` elevations in radians, downwards.

    Two blocks of 32 lasers: thirds of a degree from +2.0, then about half degrees to -24.9.
    """
    return np.deg2rad(np.concatenate([np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.9, 32)]))


def beam_directions(config: LidarConfig) -> np.ndarray:
    """`(64 * A, 3)` unit directions of a turn's shots, beam by beam, from left to right."""
    count = round(config.field / config.azimuth_step)
    azimuth = np.deg2rad((np.arange(count)[::-1] - (count - 1) / 2) * config.azimuth_step)
    elevation = beam_elevations()[:, None]
    level = np.cos(elevation)
    directions = [level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation) + 0 * azimuth]
    return np.stack(directions, -1).reshape(-1, 3)


def scan(moment: Moment, caster: RayCaster, config: LidarConfig, rng: np.random.Generator) -> Scan:
    """Points of a turn, all taken at one instant and from the LiDAR's middle."""
    directions = beam_directions(config)
    hits = caster.cast(np.zeros(3), directions)
    noise = rng.normal(0, config.range_noise, len(directions))
    chance = rng.random(len(directions))
    reached = np.flatnonzero(hits.distance < _RANGE_M)
    found = hits.take(reached)
    echo = _echo(moment, found, directions[reached])
    if config.dropout:
        solid = materials.table("solid")[moment.mesh.material[found.face]]
        returned = chance[reached] < _answered(echo, found.distance) * solid
        reached, found, echo = reached[returned], found.take(returned), echo[returned]
    distance = found.distance.astype(np.float64) + noise[reached]
    points = np.column_stack([directions[reached] * distance[:, None], np.clip(echo, 0, 1)])
    return Scan(points.astype(np.float32), moment.owner[found.face])


def _echo(moment: Moment, hits: Hits, directions: np.ndarray) -> np.ndarray:
    """Share of the light that comes back, 0 to 1, range aside.

    Rough surfaces send back more at grazing angles than Lambert's cosine says, so its root is
    taken; reflectors send it back from any angle.
    """
    material = moment.mesh.material[hits.face]
    color = moment.mesh.color[hits.face].mean(1)
    normal = hits.normal / np.maximum(np.linalg.norm(hits.normal, axis=1, keepdims=True), 1e-12)
    cosine = np.abs((normal * directions).sum(1))
    cosine = np.where(material == materials.Material.REFLECTOR, 1.0, np.sqrt(cosine))
    tint = materials.table("tint")[material]
    brightness = 1 - tint + tint * np.minimum(color / 0.5, 1.3)
    return materials.table("reflectance")[material] * brightness * cosine


def _answered(echo: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Probability that a shot is answered; the signal falls with the square of the range."""
    limit = _SURE_RANGE_M * np.sqrt(np.maximum(echo, 1e-6) / _SURE_REFLECTANCE)
    weakness = np.clip((distance / limit - 1.0) / 0.12, -40, 40)
    return (1 - _LOST) / (1 + np.exp(weakness))
