"""What people put beside a road: buildings, walls, poles, signs and small street furniture.

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
    shade,
)

_PLASTERS: tuple[Color, ...] = (
    (0.62, 0.58, 0.48), (0.55, 0.46, 0.32), (0.66, 0.64, 0.60), (0.50, 0.33, 0.22),
    (0.42, 0.44, 0.42), (0.60, 0.50, 0.40), (0.34, 0.40, 0.46),
)  # fmt: skip
_BRICKS: tuple[Color, ...] = ((0.30, 0.11, 0.07), (0.36, 0.18, 0.11), (0.25, 0.15, 0.11))
_ROOFS: tuple[Color, ...] = ((0.26, 0.08, 0.05), (0.12, 0.10, 0.10), (0.20, 0.12, 0.08))
_GLASS: Color = (0.03, 0.035, 0.04)
_GREY: Color = (0.30, 0.31, 0.32)


def building(rng: np.random.Generator, length: float, depth: float, side: int) -> Mesh:
    """A house: x from 0 to `length`, its street front at y = 0, the rest at `side` * y > 0."""
    floors = int(rng.integers(1, 6))
    storey = rng.uniform(2.7, 3.3)
    height = floors * storey + rng.uniform(0.3, 1.0)
    brick = rng.random() < 0.3
    palette = _BRICKS if brick else _PLASTERS
    color = shade(rng, palette[rng.integers(len(palette))])
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
    frame = shade(rng, ((0.75, 0.75, 0.72), (0.20, 0.12, 0.08))[rng.integers(2)])
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
    door = shade(rng, ((0.18, 0.08, 0.04), (0.05, 0.10, 0.16), (0.3, 0.3, 0.3))[rng.integers(3)])
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
        shade(rng, _ROOFS[rng.integers(len(_ROOFS))]),
    )
    ends = flat(
        np.array([[(x, 0, low), (x, side * depth, low), (x, ridge, high)] for x in (0.0, length)]),
        Material.WOOD,
        (0.25, 0.18, 0.12),
    )
    return merge([slopes, ends])


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
    return rod((0, 0, 0), (0, 0, height), (0.06, 0.06), Material.METAL, shade(rng, _GREY), 8)


def bin_(rng: np.random.Generator) -> Mesh:
    """A dustbin or a cabinet for cables."""
    wide, deep, height = rng.uniform(0.4, 1.1), rng.uniform(0.35, 0.7), rng.uniform(0.8, 1.4)
    palette: tuple[Color, ...] = ((0.03, 0.08, 0.04), (0.06, 0.06, 0.07), (0.35, 0.36, 0.34))
    color = palette[rng.integers(3)]
    low, high = (-wide / 2, -deep / 2, 0.0), (wide / 2, deep / 2, height)
    return box(low, high, Material.PLASTIC, shade(rng, color))


def fence(rng: np.random.Generator, length: float) -> Mesh:
    """A fence of slats or a low wall along x, 0 to `length`."""
    if rng.random() < 0.4:
        color = shade(rng, (0.45, 0.42, 0.38))
        return box((0, -0.12, 0), (length, 0.12, rng.uniform(0.6, 1.6)), Material.CONCRETE, color)
    height, color = rng.uniform(0.9, 1.5), shade(rng, (0.25, 0.17, 0.10))
    slats = [
        box((x, -0.015, 0.05), (x + 0.09, 0.015, height), Material.WOOD, color)
        for x in np.arange(0, length - 0.09, 0.16)
    ]
    rails = [
        box((0, 0.015, z), (length, 0.05, z + 0.07), Material.WOOD, color)
        for z in (0.25, height - 0.25)
    ]
    return merge([*slats, *rails])


def wall(rng: np.random.Generator, length: float) -> Mesh:
    """A wall of a garden or a yard along x, 0 to `length`: plastered or of brick."""
    brick = rng.random() < 0.3
    palette = _BRICKS if brick else (*_PLASTERS, (0.78, 0.78, 0.76))
    color = shade(rng, palette[rng.integers(len(palette))])
    material = Material.BRICK if brick else Material.PLASTER
    height, half = rng.uniform(1.2, 3.2), rng.uniform(0.1, 0.2)
    return box((0, -half, 0), (length, half, height), material, color)


def hall(rng: np.random.Generator, length: float, depth: float, side: int) -> Mesh:
    """A shop or a factory without a gable, placed as `building` is; a band names its owner."""
    height = rng.uniform(3.5, 9.0)
    color = shade(
        rng, ((0.62, 0.63, 0.62), (0.35, 0.37, 0.40), (0.70, 0.66, 0.55))[rng.integers(3)]
    )
    y = sorted((0.0, side * depth))
    parts = [box((0, y[0], 0), (length, y[1], height), Material.PLASTER, color)]
    bright: Color = ((0.55, 0.05, 0.04), (0.05, 0.12, 0.4), (0.6, 0.5, 0.05))[rng.integers(3)]
    low = height - rng.uniform(0.6, 1.2)
    front = sorted((0.0, -side * 0.06))
    parts.append(
        box((0, front[0], low), (length, front[1], height), Material.PLASTIC, shade(rng, bright))
    )
    at = rng.uniform(0.5, max(0.6, 0.5 * length))
    wide = rng.uniform(2.0, max(2.5, 0.4 * length))
    gate, material = (
        (_GLASS, Material.WINDOW) if rng.random() < 0.6 else (shade(rng, _GREY), Material.METAL)
    )
    parts.append(
        box((at, front[0], 0.1), (min(at + wide, length), front[1], min(2.8, low)), material, gate)
    )
    return merge(parts)


def guard_rail(rng: np.random.Generator, length: float) -> Mesh:
    """A rail of steel on posts along x, 0 to `length`."""
    posts = [
        rod((x, 0, 0), (x, 0, 0.65), (0.05, 0.05), Material.METAL, _GREY, 6)
        for x in np.arange(0.5, length, 2.0)
    ]
    rail = box(
        (0, -0.04, 0.45), (length, 0.04, 0.75), Material.METAL, shade(rng, (0.42, 0.43, 0.44))
    )
    return merge([*posts, rail])


def hoarding(rng: np.random.Generator) -> Mesh:
    """A board with advertising, or a banner, on a post: it faces -x."""
    wide, tall, low = rng.uniform(0.6, 3.5), rng.uniform(0.8, 2.8), rng.uniform(0.6, 3.0)
    palette: tuple[Color, ...] = ((0.55, 0.05, 0.05), (0.05, 0.15, 0.5), (0.75, 0.75, 0.72))
    color = shade(rng, palette[rng.integers(3)])
    board = box((-0.05, -wide / 2, low), (0.05, wide / 2, low + tall), Material.PLASTIC, color)
    post = rod((0.1, 0, 0), (0.1, 0, low + tall), (0.07, 0.07), Material.METAL, _GREY, 8)
    return merge([board, post])
