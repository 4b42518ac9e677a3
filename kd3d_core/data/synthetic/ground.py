"""The ground of a street: road, kerbs, pavements, side streets, repairs and markings."""

from itertools import pairwise

import numpy as np

from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Color, Mesh, quads, rod
from kd3d_core.data.synthetic.street import KERB_M, Street

FAR_M = 90.0
"""How far side streets and meadows reach."""
_PAINT_M = 0.006  # so that markings lie on the road for rays from 60 m away too
_PATCH_M = 0.003
_STEP_M = 4.0

_PAINT: Color = (0.62, 0.62, 0.60)


def build_ground(street: Street, rng: np.random.Generator) -> list[Mesh]:
    """All that lies flat, in street coordinates."""
    markings = _markings(street, rng) if street.marked else []
    return [*_ground(street), *_repairs(street, rng), *markings]


def strip(
    s: tuple[float, float], d: tuple[float, float], z: float, material: Material, color: Color
) -> Mesh:
    """Level rectangle in street coordinates, cut often enough to be bent along the road."""
    stops = np.linspace(*s, max(2, int(np.ceil((s[1] - s[0]) / _STEP_M)) + 1))
    return quads(
        np.array(
            [[(a, d[0], z), (b, d[0], z), (b, d[1], z), (a, d[1], z)] for a, b in pairwise(stops)]
        ),
        material,
        color,
    )


def _upright(s: tuple[float, float], d: tuple[float, float], height: float, color: Color) -> Mesh:
    """Vertical strip of kerb stone."""
    ends = np.linspace(0, 1, max(2, int(np.ceil(abs(s[1] - s[0]) / _STEP_M)) + 1))
    corners = np.array([(s[0] + (s[1] - s[0]) * t, d[0] + (d[1] - d[0]) * t) for t in ends])
    faces = [[(*a, 0.0), (*b, 0.0), (*b, height), (*a, height)] for a, b in pairwise(corners)]
    return quads(np.array(faces), Material.CONCRETE, color)


def _ground(street: Street) -> list[Mesh]:
    span = street.start, street.end
    road = street.right.kerb, street.left.kerb
    parts = [strip(span, road, 0.0, Material.ASPHALT, street.asphalt)]
    stone: Color = (0.36, 0.35, 0.33)
    for side in street.sides:
        outer = side.sign * FAR_M
        for middle, width in side.side_streets:
            across = middle - width / 2, middle + width / 2
            parts.append(strip(across, (side.kerb, outer), 0.0, Material.ASPHALT, street.asphalt))
        for run in side.runs(*span):
            inset = side.kerb + side.sign * 0.15
            parts.append(_upright(run, (side.kerb, side.kerb), KERB_M, stone))
            parts += [_upright((s, s), (side.kerb, outer), KERB_M, stone) for s in run]
            parts.append(strip(run, (side.kerb, inset), KERB_M, Material.CONCRETE, stone))
            inner, edge = side.walk
            if side.verge:
                parts.append(strip(run, (inset, inner), KERB_M, Material.GRASS, (0.12, 0.15, 0.05)))
            else:
                inner = inset
            if side.paved:
                parts.append(strip(run, (inner, edge), KERB_M, Material.SLABS, (0.30, 0.29, 0.27)))
            else:
                parts.append(strip(run, (inner, edge), KERB_M, Material.GRASS, (0.14, 0.14, 0.06)))
            parts.append(strip(run, (edge, outer), KERB_M, Material.GRASS, (0.11, 0.14, 0.045)))
    return parts


def _repairs(street: Street, rng: np.random.Generator) -> list[Mesh]:
    """Patches of newer or older asphalt, and covers of manholes."""
    parts = []
    for _ in range(rng.poisson(0.12 * (street.end - street.start))):
        s = rng.uniform(street.start, street.end)
        d = rng.uniform(street.right.kerb + 1.0, street.left.kerb - 1.0)
        if rng.random() < 0.3:
            parts.append(
                rod((s, d, 0), (s, d, _PATCH_M), (0.3, 0.3), Material.METAL, (0.1, 0.1, 0.1), 16)
            )
            continue
        long, wide = rng.uniform(0.8, 9.0), rng.uniform(0.5, 2.2)
        tone = rng.uniform(0.6, 1.35)
        color: Color = (
            street.asphalt[0] * tone,
            street.asphalt[1] * tone,
            street.asphalt[2] * tone,
        )
        across = d, min(d + wide, street.left.kerb)
        parts.append(strip((s, s + long), across, _PATCH_M, Material.ASPHALT, color))
    return parts


def _markings(street: Street, rng: np.random.Generator) -> list[Mesh]:
    parts = []
    half = street.lane_width / 2
    solid_middle, edges = rng.random() < 0.4, rng.random() < 0.6
    dash, gap = ((3.0, 6.0), (4.0, 4.0), (6.0, 9.0))[rng.integers(3)]
    phase = rng.uniform(0, dash + gap)
    dashes = np.arange(street.start - phase, street.end - dash, dash + gap)
    dashes = dashes[dashes > street.start]
    for (d, direction), (_, following) in zip(street.lanes, street.lanes[1:], strict=False):
        line = d + half - 0.06, d + half + 0.06
        if direction != following and solid_middle:
            parts.append(_paint((street.start, street.end), line))
        else:
            parts += [_paint((s, s + dash), line) for s in dashes]
    for side in street.sides:
        inner = side.lanes_end - side.sign * (0.15 if side.parking == 0 else 0.0)
        if edges or side.parking:
            for run in side.runs(street.start, street.end):
                parts.append(_paint(run, (inner - 0.06, inner + 0.06)))
        for middle, width in side.side_streets:
            stop = side.kerb + side.sign * 0.6
            low, high = sorted((middle, middle - side.sign * width / 2))
            parts.append(_paint((low + 0.3, high - 0.3), (stop, stop + side.sign * 0.4)))
            if rng.random() < 0.35:
                parts += _zebra(street, middle - width / 2 - 4.5)
    return parts


def _zebra(street: Street, s: float) -> list[Mesh]:
    stripes = np.arange(street.right.kerb + 0.4, street.left.kerb - 0.7, 1.0)
    return [_paint((s, s + 3.0), (d, d + 0.5)) for d in stripes]


def _paint(s: tuple[float, float], d: tuple[float, float]) -> Mesh:
    return strip(s, d, _PAINT_M, Material.MARKING, _PAINT)
