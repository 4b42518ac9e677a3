"""What stands beside a road: buildings, trees, hedges, poles, signs and small street furniture.

Each shape stands on z = 0 around the origin, or where its arguments say.
"""

from dataclasses import replace

import numpy as np

from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import (
    Color,
    Mesh,
    box,
    ellipsoid,
    flat,
    merge,
    quads,
    rod,
)

_PLASTERS: tuple[Color, ...] = (
    (0.62, 0.58, 0.48), (0.55, 0.46, 0.32), (0.66, 0.64, 0.60), (0.50, 0.33, 0.22),
    (0.42, 0.44, 0.42), (0.60, 0.50, 0.40), (0.34, 0.40, 0.46),
)  # fmt: skip
_BRICKS: tuple[Color, ...] = ((0.30, 0.11, 0.07), (0.36, 0.18, 0.11), (0.25, 0.15, 0.11))
_ROOFS: tuple[Color, ...] = ((0.26, 0.08, 0.05), (0.12, 0.10, 0.10), (0.20, 0.12, 0.08))
_LEAVES: tuple[Color, ...] = ((0.09, 0.15, 0.03), (0.06, 0.11, 0.025), (0.15, 0.15, 0.03))
_GLASS: Color = (0.03, 0.035, 0.04)
_GREY: Color = (0.30, 0.31, 0.32)


def building(rng: np.random.Generator, length: float, depth: float, side: int) -> Mesh:
    """A house: x from 0 to `length`, its street front at y = 0, the rest at `side` * y > 0."""
    floors = int(rng.integers(1, 6))
    storey = rng.uniform(2.7, 3.3)
    height = floors * storey + rng.uniform(0.3, 1.0)
    brick = rng.random() < 0.3
    palette = _BRICKS if brick else _PLASTERS
    color = _shade(rng, palette[rng.integers(len(palette))])
    wall = Material.BRICK if brick else Material.PLASTER
    parts = [
        box((0, min(0, side * depth), 0), (length, max(0, side * depth), height), wall, color),
        _plinth(length, depth, side, color),
        *_fronts(rng, length, depth, side, floors, storey),
    ]
    if rng.random() < 0.65:
        parts.append(_gable(rng, length, depth, side, height))
    return merge(parts)


def _plinth(length: float, depth: float, side: int, color: Color) -> Mesh:
    dark: Color = (color[0] * 0.55, color[1] * 0.55, color[2] * 0.55)
    y = sorted((-side * 0.03, side * (depth + 0.03)))
    return box((-0.03, y[0], 0), (length + 0.03, y[1], 0.5), Material.CONCRETE, dark)


def _fronts(
    rng: np.random.Generator, length: float, depth: float, side: int, floors: int, storey: float
) -> list[Mesh]:
    """Windows with frames on the street front and on both ends, and a door."""
    wide, tall = rng.uniform(0.9, 1.6), rng.uniform(1.2, 1.7)
    spacing, sill = wide + rng.uniform(0.8, 1.8), rng.uniform(0.8, 1.0)
    frame = _shade(rng, ((0.75, 0.75, 0.72), (0.20, 0.12, 0.08))[rng.integers(2)])
    panes: list[list[tuple[float, ...]]] = []
    frames: list[list[tuple[float, ...]]] = []
    for origin, along, span in (
        ((0.0, 0.0), (1.0, 0.0), length),
        ((0.0, 0.0), (0.0, float(side)), depth),
        ((length, 0.0), (0.0, float(side)), depth),
    ):
        out = (
            np.array([0.0, -side]) if along[0] else np.array([-1.0 if origin[0] == 0 else 1.0, 0.0])
        )
        count = int((span - 1.0) / spacing)
        starts = (span - (count - 1) * spacing - wide) / 2 + spacing * np.arange(count)
        for floor in range(floors):
            low = floor * storey + sill
            for start in starts:
                for margin, lift, found in ((0.09, 0.02, frames), (0.0, 0.035, panes)):
                    a, b = start - margin, start + wide + margin
                    foot = np.array(origin) + out * lift
                    left, right = foot + np.array(along) * a, foot + np.array(along) * b
                    bottom, top = low - margin, low + tall + margin
                    found.append([(*left, bottom), (*right, bottom), (*right, top), (*left, top)])
    parts = []
    if panes:
        parts = [
            quads(np.array(frames), Material.PLASTIC, frame),
            _curtained(rng, quads(np.array(panes), Material.WINDOW, _GLASS)),
        ]
    at = rng.uniform(0.3, max(0.4, length - 1.6))
    y = sorted((0.0, -side * 0.05))
    door = _shade(rng, ((0.18, 0.08, 0.04), (0.05, 0.10, 0.16), (0.3, 0.3, 0.3))[rng.integers(3)])
    parts.append(box((at, y[0], 0), (at + 1.1, y[1], 2.15), Material.WOOD, door))
    return parts


def _curtained(rng: np.random.Generator, panes: Mesh) -> Mesh:
    """Window panes of which some show a curtain."""
    count = len(panes) // 2
    bright = np.where(rng.random(count) < 0.35, rng.uniform(0.1, 0.5, count), 0.03)
    colors = np.repeat(bright, 2)[:, None] * np.array([1.0, 0.96, 0.9])
    return replace(panes, color=colors.astype(np.float32))


def _gable(rng: np.random.Generator, length: float, depth: float, side: int, height: float) -> Mesh:
    rise, over = rng.uniform(0.3, 0.55) * depth, 0.35
    low, high = height - 0.1, height + rise
    y0, y1, ridge = -side * over, side * (depth + over), side * depth / 2
    x0, x1 = -over, length + over
    slopes = quads(
        np.array(
            [
                [(x0, y0, low), (x1, y0, low), (x1, ridge, high), (x0, ridge, high)],
                [(x0, y1, low), (x1, y1, low), (x1, ridge, high), (x0, ridge, high)],
            ]
        ),
        Material.ROOF,
        _shade(rng, _ROOFS[rng.integers(len(_ROOFS))]),
    )
    ends = flat(
        np.array([[(x, 0, low), (x, side * depth, low), (x, ridge, high)] for x in (0.0, length)]),
        Material.WOOD,
        (0.25, 0.18, 0.12),
    )
    return merge([slopes, ends])


def tree(rng: np.random.Generator, far: bool = False) -> Mesh:
    """A broad-leaved tree; one that is far has fewer and larger leaves."""
    height = rng.uniform(5.0, 11.0)
    bole, spread = rng.uniform(0.25, 0.4) * height, rng.uniform(0.22, 0.36) * height
    color = _shade(rng, _LEAVES[rng.choice(3, p=(0.5, 0.35, 0.15))])
    radius = 0.018 * height + 0.04
    parts = [
        rod((0, 0, 0), (0, 0, bole + 0.35 * height), (radius, 0.5 * radius), Material.BARK,
            (0.11, 0.08, 0.055), 9)
    ]  # fmt: skip
    middle = (bole + height) / 2
    leaves = (40, 0.3) if far else (170, 0.14)
    for _ in range(int(rng.integers(4, 8))):
        offset = rng.normal(0, 0.33, 3) * (spread, spread, (height - bole) / 2)
        size = rng.uniform(0.45, 0.75) * spread
        parts += _tuft(
            rng, offset + np.array([0, 0, middle]), size * np.array([1, 1, 0.85]), color, *leaves
        )
    return merge(parts)


def conifer(rng: np.random.Generator) -> Mesh:
    """A spruce: a trunk and a pointed cone of needles."""
    height = rng.uniform(5.0, 13.0)
    color = _shade(rng, (0.035, 0.07, 0.03))
    parts = [rod((0, 0, 0), (0, 0, 0.3 * height), (0.14, 0.12), Material.BARK, (0.1, 0.07, 0.05))]
    for share in np.linspace(0.12, 0.92, 8):
        wide = 0.2 * height * (1 - share) + 0.15
        size = np.array([wide, wide, 0.09 * height])
        parts += _tuft(rng, np.array([0, 0, share * height]), size, color, 60, 0.2)
    return merge(parts)


def bush(rng: np.random.Generator) -> Mesh:
    """A shrub to about a man's height."""
    size = rng.uniform(0.4, 1.1)
    color = _shade(rng, _LEAVES[rng.integers(3)])
    radii = np.array([size, size * rng.uniform(0.8, 1.3), size * rng.uniform(0.7, 1.1)])
    return merge(_tuft(rng, np.array([0, 0, 0.6 * radii[2]]), radii, color, 150, 0.09))


def hedge(rng: np.random.Generator, length: float) -> Mesh:
    """A trimmed hedge along x, 0 to `length`, centred on y = 0."""
    height, half = rng.uniform(0.9, 2.0), rng.uniform(0.3, 0.5)
    color = _shade(rng, _LEAVES[rng.integers(2)])
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
            _leaf_cloud(rng, where, normal, 0.1, color),
        ]
    )


def _tuft(
    rng: np.random.Generator,
    center: np.ndarray,
    radii: np.ndarray,
    color: Color,
    count: int,
    leaf: float,
) -> list[Mesh]:
    """A ball of leaves: quads on its surface, shaded as the ball is, around a darker core."""
    core: Color = (color[0] * 0.45, color[1] * 0.45, color[2] * 0.45)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    where = center + direction * radii * rng.uniform(0.75, 1.12, (count, 1))
    return [
        ellipsoid(center, radii * 0.8, Material.LEAVES, core, detail=1),
        _leaf_cloud(rng, where, direction, leaf, color),
    ]


def _leaf_cloud(
    rng: np.random.Generator, where: np.ndarray, normal: np.ndarray, size: float, color: Color
) -> Mesh:
    """Quads at `(N, 3)` places, turned at random, lit as surfaces with `(N, 3)` normals are."""
    count = len(where)
    first = rng.normal(size=(count, 3))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(first, rng.normal(size=(count, 3)))
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    reach = size * rng.uniform(0.5, 1.4, (count, 1))
    a, b = first * reach, second * reach * 0.7
    corners = np.stack([where - a - b, where + a - b, where + a + b, where - a + b], 1)
    mesh = quads(corners, Material.LEAVES, color)
    lit = normal + rng.normal(0, 0.35, (count, 3))
    lit /= np.linalg.norm(lit, axis=1, keepdims=True)
    normals = np.repeat(lit, 2, 0)[:, None].repeat(3, 1).astype(np.float32)
    tone = np.repeat(rng.uniform(0.6, 1.4, (count, 1)), 2, 0)
    return Mesh(mesh.triangles, normals, mesh.material, (mesh.color * tone).astype(np.float32))


def lamp_post(rng: np.random.Generator, side: int) -> Mesh:
    """A street lamp whose arm reaches over the road, towards -`side` * y."""
    height, reach = rng.uniform(6.0, 9.0), rng.uniform(0.8, 2.0)
    end = (0.0, -side * reach, height + 0.25)
    return merge(
        [
            rod((0, 0, 0), (0, 0, height), (0.09, 0.06), Material.METAL, _GREY),
            rod((0, 0, height), end, (0.05, 0.04), Material.METAL, _GREY, 6),
            ellipsoid(end, (0.16, 0.35, 0.08), Material.PLASTIC, (0.5, 0.5, 0.5)),
        ]
    )


def sign(rng: np.random.Generator) -> Mesh:
    """A traffic sign that faces -x."""
    height = rng.uniform(2.2, 2.7)
    color = ((0.5, 0.02, 0.02), (0.02, 0.10, 0.45), (0.8, 0.8, 0.8))[rng.integers(3)]
    parts = [rod((0, 0, 0), (0, 0, height), (0.035, 0.035), Material.METAL, _GREY, 8)]
    if rng.random() < 0.6:
        for x, radius, paint in ((-0.05, 0.32, color), (-0.055, 0.23, (0.8, 0.8, 0.8))):
            parts.append(
                rod((x, 0, height), (x + 0.004, 0, height), (radius, radius),
                    Material.REFLECTOR, paint, 20)
            )  # fmt: skip
    else:
        board = [
            (-0.05, y, height + z) for y, z in ((-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3))
        ]
        parts.append(quads(np.array(board), Material.REFLECTOR, color))
    return merge(parts)


def bollard(rng: np.random.Generator) -> Mesh:
    """A post of knee or hip height."""
    height = rng.uniform(0.7, 1.1)
    return rod((0, 0, 0), (0, 0, height), (0.06, 0.06), Material.METAL, _shade(rng, _GREY), 8)


def bin_(rng: np.random.Generator) -> Mesh:
    """A dustbin or a cabinet for cables."""
    wide, deep, height = rng.uniform(0.4, 1.1), rng.uniform(0.35, 0.7), rng.uniform(0.8, 1.4)
    palette: tuple[Color, ...] = ((0.03, 0.08, 0.04), (0.06, 0.06, 0.07), (0.35, 0.36, 0.34))
    color = palette[rng.integers(3)]
    low, high = (-wide / 2, -deep / 2, 0.0), (wide / 2, deep / 2, height)
    return box(low, high, Material.PLASTIC, _shade(rng, color))


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A fence of slats or a low wall along x, 0 to `length`."""
    if rng.random() < 0.4:
        color = _shade(rng, (0.45, 0.42, 0.38))
        return box((0, -0.12, 0), (length, 0.12, rng.uniform(0.6, 1.6)), Material.CONCRETE, color)
    height, color = rng.uniform(0.9, 1.5), _shade(rng, (0.25, 0.17, 0.10))
    slats = [
        box((x, -0.015, 0.05), (x + 0.09, 0.015, height), Material.WOOD, color)
        for x in np.arange(0, length - 0.09, 0.16)
    ]
    rails = [
        box((0, 0.015, z), (length, 0.05, z + 0.07), Material.WOOD, color)
        for z in (0.25, height - 0.25)
    ]
    return merge([*slats, *rails])


def _shade(rng: np.random.Generator, color: Color) -> Color:
    """The colour made lighter or darker, and a little warmer or colder."""
    red, green, blue = np.array(color) * rng.uniform(0.75, 1.25) * rng.uniform(0.95, 1.05, 3)
    return (float(min(red, 0.9)), float(min(green, 0.9)), float(min(blue, 0.9)))
