"""Plants beside a road: trees, bushes, hedges and thickets.

Each stands on z = 0 around the origin, or where its arguments say.
"""

import numpy as np

from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import (
    Color,
    Mesh,
    box,
    cross,
    ellipsoids,
    merge,
    quads,
    rod,
    shade,
)

_ROOM_M = 2.0  # below the crowns of tall trees
_LEAVES: tuple[Color, ...] = ((0.09, 0.15, 0.03), (0.06, 0.11, 0.025), (0.15, 0.15, 0.03))


def tree(rng: np.random.Generator, far: bool = False, tall: bool = False) -> Mesh:
    """A broad-leaved tree; one that is far has fewer and larger leaves.

    The crown of a tall one begins above cars and reaches over half a road.
    """
    height = rng.uniform(9.0, 17.0) if tall else rng.uniform(5.0, 11.0)
    bole, spread = rng.uniform(0.25, 0.4) * height, rng.uniform(0.22, 0.36) * height
    color = shade(rng, _LEAVES[rng.choice(3, p=(0.5, 0.35, 0.15))])
    radius = 0.018 * height + 0.04
    parts = [
        rod((0, 0, 0), (0, 0, bole + 0.35 * height), (radius, 0.5 * radius), Material.BARK,
            (0.11, 0.08, 0.055), 9)
    ]  # fmt: skip
    middle = (bole + height) / 2
    leaves = (40, 0.3) if far else (170, 0.14)
    count = int(rng.integers(4, 8))
    offsets = rng.normal(0, 0.33, (count, 3)) * (spread, spread, (height - bole) / 2)
    radii = rng.uniform(0.45, 0.75, (count, 1)) * spread * (1, 1, 0.85)
    colors = np.tile(color, (count, 1))
    centers = offsets + np.array([0, 0, middle])
    if tall:
        centers[:, 2] = np.maximum(centers[:, 2], _ROOM_M + 1.12 * radii[:, 2] + 0.2)
    return merge([*parts, *_tufts(rng, centers, radii, colors, *leaves)])


def conifer(rng: np.random.Generator) -> Mesh:
    """A spruce: a trunk and a pointed cone of needles."""
    height = rng.uniform(5.0, 13.0)
    color = shade(rng, (0.035, 0.07, 0.03))
    parts = [rod((0, 0, 0), (0, 0, 0.3 * height), (0.14, 0.12), Material.BARK, (0.1, 0.07, 0.05))]
    shares = np.linspace(0.12, 0.92, 8)
    wide = 0.2 * height * (1 - shares) + 0.15
    radii = np.column_stack([wide, wide, np.full(8, 0.09 * height)])
    centers = np.column_stack([0 * wide, 0 * wide, shares * height])
    return merge([*parts, *_tufts(rng, centers, radii, np.tile(color, (8, 1)), 60, 0.2)])


def bush(rng: np.random.Generator) -> Mesh:
    """A shrub to about a man's height."""
    size = rng.uniform(0.4, 1.1)
    color = shade(rng, _LEAVES[rng.integers(3)])
    radii = np.array([[size, size * rng.uniform(0.8, 1.3), size * rng.uniform(0.7, 1.1)]])
    center = np.array([[0, 0, 0.6 * radii[0, 2]]])
    return merge(_tufts(rng, center, radii, np.array([color]), 150, 0.09))


def hedge(rng: np.random.Generator, length: float) -> Mesh:
    """A trimmed hedge along x, 0 to `length`, centred on y = 0."""
    height, half = rng.uniform(0.9, 2.0), rng.uniform(0.3, 0.5)
    color = shade(rng, _LEAVES[rng.integers(2)])
    core: Color = (color[0] * 0.6, color[1] * 0.6, color[2] * 0.6)
    count = int(25 * length)
    where = rng.uniform((0, -half, 0.1), (length, half, height), (count, 3))
    face = rng.integers(3, size=count)
    where[face == 0, 1] = half * rng.choice((-1, 1), (face == 0).sum())
    where[face == 1, 2] = height
    normal = np.zeros((count, 3))
    normal[:, 1] = np.where(face == 1, 0, np.sign(where[:, 1]))
    normal[:, 2] = np.where(face == 1, 1, 0.3)
    return merge(
        [
            box((0, -half, 0), (length, half, height - 0.05), Material.LEAVES, core),
            _leaf_cloud(rng, where, normal, 0.1, np.array(color)),
        ]
    )


def thicket(rng: np.random.Generator, length: float, height: float, far: bool = False) -> Mesh:
    """Trees and bushes without a gap, along x from 0 to `length`, about 4 m deep.

    One that is far has fewer and larger leaves.
    """
    columns = np.arange(0.5, length, 1.6)
    shares = np.array([0.1, 0.4, 0.7])
    count = len(columns), len(shares)
    top = height * rng.uniform(0.55, 1.0, (len(columns), 1))
    centers = np.empty((*count, 3))
    centers[..., 0] = columns[:, None]
    centers[..., 1] = rng.uniform(-1.3, 1.3, count)
    centers[..., 2] = top * shares
    centers += rng.normal(0, 0.25, centers.shape)
    radii = np.empty((*count, 3))
    radii[...] = 1.5, 1.3, 0.0
    radii[..., 2] = np.maximum(0.6, 0.24 * top)
    radii *= rng.uniform(0.7, 1.3, (*count, 1))
    color = shade(rng, _LEAVES[rng.choice(3, p=(0.45, 0.45, 0.1))])
    colors = np.array(color) * rng.uniform(0.75, 1.25, (*count, 1))
    leaves = (14, 0.4) if far else (80, 0.13)
    balls, sizes, tones = (values.reshape(-1, 3) for values in (centers, radii, colors))
    return merge(_tufts(rng, balls, sizes, tones, *leaves))


def _tufts(
    rng: np.random.Generator,
    centers: np.ndarray,
    radii: np.ndarray,
    colors: np.ndarray,
    count: int,
    leaf: float,
) -> list[Mesh]:
    """Balls of leaves: quads on their surface, shaded as balls are, around darker cores.

    Args:
        rng: draws the leaves.
        centers, radii, colors: `(N, 3)` of the balls.
        count: leaves of each.
        leaf: their size.
    """
    direction = rng.normal(size=(len(centers), count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    shell = rng.uniform(0.75, 1.12, (len(centers), count, 1))
    where = centers[:, None] + direction * radii[:, None] * shell
    return [
        ellipsoids(centers, radii * 0.8, colors * 0.45, Material.LEAVES, detail=1),
        _leaf_cloud(
            rng,
            where.reshape(-1, 3),
            direction.reshape(-1, 3),
            leaf,
            np.repeat(colors, count, 0),
        ),
    ]


def _leaf_cloud(
    rng: np.random.Generator, where: np.ndarray, normal: np.ndarray, size: float, colors: np.ndarray
) -> Mesh:
    """Quads at `(N, 3)` places, turned at random, lit as surfaces with `(N, 3)` normals are.

    `colors` are `(N, 3)`, or one for all.
    """
    count = len(where)
    first = rng.normal(size=(count, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = cross(first, rng.normal(size=(count, 3)))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    reach = size * rng.uniform(0.5, 1.4, (count, 1))
    a, b = first * reach, second * reach * 0.7
    corners = np.stack([where - a - b, where + a - b, where + a + b, where - a + b], 1)
    mesh = quads(corners, Material.LEAVES, (0, 0, 0))
    lit = normal + rng.normal(0, 0.35, (count, 3))
    lit /= np.linalg.norm(lit, axis=1, keepdims=True)
    normals = np.repeat(lit, 2, 0)[:, None].repeat(3, 1).astype(np.float32)
    toned = np.repeat(colors * rng.uniform(0.6, 1.4, (count, 1)), 2, 0)
    return Mesh(mesh.triangles, normals, mesh.material, toned.astype(np.float32))
