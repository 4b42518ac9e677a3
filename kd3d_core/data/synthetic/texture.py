"""Procedural textures: how colour varies over a surface.

A pattern fades out where it is finer than a pixel, as a mip map would have it.
"""

from functools import cache

import numpy as np

from kd3d_core.data.synthetic.materials import Material

_SIZE = 512


def vary(
    material: np.ndarray,
    color: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
    footprint: np.ndarray,
) -> np.ndarray:
    """Albedo of surface points.

    Args:
        material: `(N,)` of `Material`.
        color: `(N, 3)` mean albedo.
        points: `(N, 3)` in the world, metres.
        normals: `(N, 3)` unit normals in the world.
        footprint: `(N,)` size of a pixel on the surface, metres.

    Returns:
        `(N, 3)` float32.
    """
    albedo = color.copy()
    for kind, pattern in _PATTERNS.items():
        here = np.flatnonzero(material == kind)
        if len(here):
            factor = pattern(points[here], normals[here], footprint[here])
            albedo[here] *= factor if factor.ndim == 2 else factor[:, None]
    return np.clip(albedo, 0, 1)


def cloud_noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Noise of clouds, about -2 to 2, at positions in lengths of a cloud."""
    return _bilinear(_pink(), u * 40, v * 40)


def _asphalt(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    patches = _noise(_pink(), points, 0.06)
    stains = _noise(_pink(), points[:, 1::-1], 0.011) * _fade(footprint, 0.05)
    grain = _noise(_white(), points, 0.012) * _fade(footprint, 0.012)
    tracks = 0.05 * np.cos(points[:, 1] * (2 * np.pi / 1.75))
    crack = np.abs(_noise(_pink(), points, 0.035)) < 0.012
    return np.clip(
        1
        + 0.11 * patches
        + 0.10 * stains
        + 0.2 * grain
        + tracks
        - 0.35 * crack * _fade(footprint, 0.05),
        0.3,
        2,
    )


def _marking(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    wear = np.clip(_noise(_pink(), points, 0.02) - 0.6, 0, 2) * _fade(footprint, 0.03)
    return np.clip(1 - 0.35 * wear, 0.25, 1)


def _slabs(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    joint = np.minimum(_line(points[:, 0], 0.5, 0.012), _line(points[:, 1], 0.5, 0.012))
    slab = _hash(np.floor(points[:, 0] * 2), np.floor(points[:, 1] * 2)) - 0.5
    dirt = _noise(_pink(), points, 0.04)
    fade = _fade(footprint, 0.02)
    return np.clip(
        1 - 0.4 * (1 - joint) * fade + 0.16 * slab * _fade(footprint, 0.4) + 0.1 * dirt, 0.3, 2
    )


def _grass(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    patches = _noise(_pink(), points, 0.09)[:, None]
    blades = (_noise(_white(), points, 0.02) * _fade(footprint, 0.02))[:, None]
    tufts = (_noise(_pink(), points, 0.012) * _fade(footprint, 0.1))[:, None]
    dry = np.array([0.22, 0.13, 0.08], np.float32)
    return np.clip(1 + dry * patches + 0.28 * tufts + 0.3 * blades, 0.25, 2.2)


def _plaster(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    along = _along_wall(points, normals)
    wall = np.stack([along, points[:, 2]], 1)
    dirt = _noise(_pink(), wall, 0.035)
    grain = _noise(_white(), wall, 0.01) * _fade(footprint, 0.01)
    return np.clip(1 + 0.06 * dirt + 0.06 * grain, 0.4, 1.5)


def _brick(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    along = _along_wall(points, normals)
    row = np.floor(points[:, 2] / 0.085)
    shifted = along + 0.125 * (row % 2)
    joint = np.minimum(_line(points[:, 2], 0.085, 0.012), _line(shifted, 0.25, 0.012))
    tone = (_hash(row, np.floor(shifted / 0.25)) - 0.5) * _fade(footprint, 0.12)
    dirt = _noise(_pink(), np.stack([along, points[:, 2]], 1), 0.04)
    mortar = (0.5 * (1 - joint) * _fade(footprint, 0.03))[:, None]
    return np.clip(1 + 0.4 * tone + 0.08 * dirt, 0.4, 1.8)[:, None] + mortar


def _roof(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    rows = _line(points[:, 2], 0.22, 0.05)
    tone = _noise(_pink(), points, 0.05)
    return np.clip(1 - 0.35 * (1 - rows) * _fade(footprint, 0.08) + 0.12 * tone, 0.3, 1.6)


def _leaves(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    across = np.stack([points[:, 0] + 0.7 * points[:, 2], points[:, 1] - 0.6 * points[:, 2]], 1)
    tufts = _noise(_pink(), across, 0.03)
    leaf = _noise(_white(), across, 0.03) * _fade(footprint, 0.06)
    return np.clip(1 + 0.25 * tufts + 0.3 * leaf, 0.25, 2)


def _rough(points: np.ndarray, normals: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    wall = np.stack([points[:, 0] + points[:, 1], points[:, 2]], 1)
    grain = _noise(_white(), wall * (1.0, 0.3), 0.02) * _fade(footprint, 0.03)
    return np.clip(1 + 0.12 * _noise(_pink(), wall, 0.03) + 0.2 * grain, 0.3, 2)


_PATTERNS = {
    Material.ASPHALT: _asphalt,
    Material.MARKING: _marking,
    Material.SLABS: _slabs,
    Material.CONCRETE: _plaster,
    Material.GRASS: _grass,
    Material.SOIL: _grass,
    Material.PLASTER: _plaster,
    Material.BRICK: _brick,
    Material.ROOF: _roof,
    Material.LEAVES: _leaves,
    Material.BARK: _rough,
    Material.WOOD: _rough,
}


def _fade(footprint: np.ndarray, size_m: float) -> np.ndarray:
    """How much of a pattern of a size survives in pixels of `footprint` metres, 0 to 1."""
    return 1 / (1 + (footprint / size_m) ** 2)


def _line(position: np.ndarray, period: float, width: float) -> np.ndarray:
    """0 on lines of a width that repeat with a period, 1 elsewhere."""
    return ((position % period) > width).astype(np.float32)


def _along_wall(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Horizontal position along an upright wall."""
    return points[:, 1] * normals[:, 0] - points[:, 0] * normals[:, 1]


def _hash(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A number from 0 to 1 that looks random for each pair of whole numbers."""
    cells = _uniform()
    return cells[a.astype(np.int64) % _SIZE, b.astype(np.int64) % _SIZE]


def _noise(table: np.ndarray, points: np.ndarray, texel_m: float) -> np.ndarray:
    """Nearest entry of a tileable table, laid over the plane of the first two coordinates."""
    cells = np.floor(points[:, :2] / texel_m).astype(np.int64) % _SIZE
    return table[cells[:, 0], cells[:, 1]]


def _bilinear(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    row, column = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    a, b = (u - row).astype(np.float32), (v - column).astype(np.float32)
    row, column = row % _SIZE, column % _SIZE
    below, right = (row + 1) % _SIZE, (column + 1) % _SIZE
    return (table[row, column] * (1 - a) + table[below, column] * a) * (1 - b) + (
        table[row, right] * (1 - a) + table[below, right] * a
    ) * b


@cache
def _uniform() -> np.ndarray:
    return np.random.default_rng(1).random((_SIZE, _SIZE), np.float32)


@cache
def _white() -> np.ndarray:
    """Tileable noise without structure, unit variance."""
    return np.random.default_rng(2).standard_normal((_SIZE, _SIZE), np.float32)


@cache
def _pink() -> np.ndarray:
    """Tileable noise with as much power in each octave, unit variance."""
    spectrum = np.fft.rfft2(np.random.default_rng(3).standard_normal((_SIZE, _SIZE)))
    rows, columns = np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None]
    radius = np.hypot(rows, columns)
    radius[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / radius**1.2, s=(_SIZE, _SIZE))
    return (noise / noise.std()).astype(np.float32)
