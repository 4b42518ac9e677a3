"""Sun, sky and haze of a scene."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.data.synthetic import texture
from kd3d_core.data.synthetic.mesh import dot


@dataclass(frozen=True, eq=False)
class Light:
    """Light of a scene, in linear RGB.

    Attributes:
        sun: `(3,)` unit vector towards the sun, in the world.
        sun_color: `(3,)` what the sun adds to a white surface that faces it.
        zenith: `(3,)` radiance of the sky overhead.
        horizon: `(3,)` radiance of the sky at the horizon.
        clouds: share of the sky that clouds cover, 0 to 1.
        cloud_offset: `(2,)` which part of the cloud texture is overhead.
        haze_m: distance at which haze hides all but 1/e of the contrast.
    """

    sun: np.ndarray
    sun_color: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: float
    cloud_offset: np.ndarray
    haze_m: float


def draw_light(rng: np.random.Generator) -> Light:
    """A time of day and weather: mostly sun, sometimes overcast."""
    elevation = np.deg2rad(rng.uniform(18, 65))
    azimuth = rng.uniform(-np.pi, np.pi)
    overcast = rng.random() < 0.25
    low = 1 - np.sin(elevation)
    sun_color = np.array([1.0, 1 - 0.12 * low, 1 - 0.32 * low]) * rng.uniform(2.2, 3.4)
    blue = np.array([0.30, 0.48, 0.85]) * rng.uniform(0.9, 1.5)
    white = np.array([0.84, 0.89, 0.95]) * rng.uniform(1.3, 2.2)
    if overcast:
        sun_color *= rng.uniform(0.02, 0.3)
        blue = white * rng.uniform(0.8, 1.0)
    return Light(
        sun=np.array(
            [
                np.cos(elevation) * np.cos(azimuth),
                np.cos(elevation) * np.sin(azimuth),
                np.sin(elevation),
            ],
            np.float32,
        ),
        sun_color=sun_color.astype(np.float32),
        zenith=blue.astype(np.float32),
        horizon=white.astype(np.float32),
        clouds=float(rng.uniform(0.7, 1.0) if overcast else rng.uniform(0, 0.6)),
        cloud_offset=rng.uniform(0, 100, 2).astype(np.float32),
        haze_m=float(np.exp(rng.uniform(np.log(350), np.log(4000)))),
    )


def sky_radiance(light: Light, directions: np.ndarray) -> np.ndarray:
    """`(N, 3)` radiance of the sky in unit `(N, 3)` directions; below the horizon as on it."""
    up = np.clip(directions[:, 2], 0, 1)
    blend = (1 - np.exp(-4.0 * up))[:, None]
    color = light.horizon * (1 - blend) + light.zenith * blend
    scale = 1.2 / (up + 0.12)
    noise = texture.cloud_noise(
        directions[:, 0] * scale + light.cloud_offset[0],
        directions[:, 1] * scale + light.cloud_offset[1],
    )
    density = np.clip((noise + 2.2 * light.clouds - 1.3) * 0.8, 0, 1)[:, None]
    color = color * (1 - density) + light.horizon * (0.95 + 0.15 * noise[:, None]) * density
    facing = np.clip(dot(directions, light.sun), 0, 1)[:, None]
    return color + light.sun_color * (0.12 * facing**16 + 0.6 * facing**250)


def ambient(light: Light, normals: np.ndarray) -> np.ndarray:
    """`(N, 3)` light that sky and ground together send onto surfaces with unit normals."""
    share = (0.5 + 0.5 * normals[:, 2:3]).astype(np.float32)
    sky = 0.5 * light.zenith + 0.2 * light.horizon
    bounce = 0.22 * (light.sun_color * max(float(light.sun[2]), 0.1) + sky) * (1.0, 0.95, 0.85)
    return sky * share + bounce.astype(np.float32) * (1 - share)
