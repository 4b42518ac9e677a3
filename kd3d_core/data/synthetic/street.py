"""The street: how its strips lie beside each other, and the mesh of all that doesn't move.

Street coordinates: s along the road from the ego car's start, d to the left of the middle of its
lane, z up, metres. Everything is built on a straight road and then bent along its centre line.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from kd3d_core.data.synthetic import scenery
from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Color, Mesh, merge, quads, rod

KERB_M = 0.12
"""Height of the pavement over the road."""
_PAINT_M = 0.006  # so that markings lie on the road for rays from 60 m away too
_PATCH_M = 0.003
_STEP_M = 4.0
_FAR_M = 90.0

_ASPHALT: Color = (0.105, 0.105, 0.11)
_PAINT: Color = (0.62, 0.62, 0.60)


@dataclass(frozen=True, eq=False)
class CenterLine:
    """The way of the ego car's lane through the world, as a table over s.

    Attributes:
        s: `(N,)` metres, evenly spaced.
        x, y: `(N,)` metres.
        heading: `(N,)` radians.
    """

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, start: float, end: float) -> "CenterLine":
        """Straight or softly winding, from s = `start` to `end`, through the origin at s = 0."""
        s = np.arange(np.floor(start) - 100, end + 100, 0.5)
        winding = rng.uniform(0.05, 0.3) if rng.random() < 0.6 else 0.0
        wavelength, phase = rng.uniform(220, 420), rng.uniform(0, 2 * np.pi)
        heading = winding * np.sin(2 * np.pi * s / wavelength + phase)
        heading -= np.interp(0.0, s, heading)
        x = np.cumsum(np.cos(heading)) * 0.5
        y = np.cumsum(np.sin(heading)) * 0.5
        return cls(s, x - np.interp(0.0, s, x), y - np.interp(0.0, s, y), heading)

    def place(self, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World x, y and the road's heading at street coordinates."""
        heading = np.interp(s, self.s, self.heading)
        x = np.interp(s, self.s, self.x) - d * np.sin(heading)
        y = np.interp(s, self.s, self.y) + d * np.cos(heading)
        return x, y, heading

    def bend(self, mesh: Mesh) -> Mesh:
        """A mesh in street coordinates, in the world."""
        points = mesh.triangles.astype(np.float64)
        x, y, heading = self.place(points[..., 0], points[..., 1])
        triangles = np.stack([x, y, points[..., 2]], -1).astype(np.float32)
        cos, sin = np.cos(heading), np.sin(heading)
        n = mesh.normals
        normals = np.stack(
            [n[..., 0] * cos - n[..., 1] * sin, n[..., 0] * sin + n[..., 1] * cos, n[..., 2]], -1
        )
        return replace(mesh, triangles=triangles, normals=normals.astype(np.float32))


@dataclass(frozen=True)
class Side:
    """One side of the street, from the outermost lane outwards.

    Attributes:
        sign: 1 for the left side, -1 for the right.
        lanes_end: d of the edge of the outermost lane.
        parking: width of the parking lane, 0 if there is none.
        verge: width of the strip of grass behind the kerb, 0 if there is none.
        pavement: width of the pavement.
        setback: distance between pavement and houses.
        built: share of the plots with a house.
        side_streets: s of the middle, and width, of each street that joins.
    """

    sign: int
    lanes_end: float
    parking: float
    verge: float
    pavement: float
    setback: float
    built: float
    side_streets: tuple[tuple[float, float], ...]

    @property
    def kerb(self) -> float:
        """d of the kerb."""
        return self.lanes_end + self.sign * self.parking

    @property
    def walk(self) -> tuple[float, float]:
        """d of the pavement's inner and outer edge."""
        inner = self.kerb + self.sign * self.verge
        return inner, inner + self.sign * self.pavement

    @property
    def front(self) -> float:
        """d of the houses' fronts."""
        return self.walk[1] + self.sign * self.setback

    def runs(self, start: float, end: float) -> list[tuple[float, float]]:
        """Parts of the side between its side streets, as (first s, last s)."""
        borders = [start]
        for middle, width in sorted(self.side_streets):
            borders += [middle - width / 2, middle + width / 2]
        borders.append(end)
        return [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True) if b - a > 1]

    def at_side_street(self, s: float, margin: float) -> bool:
        """Whether a street joins within `margin` of s."""
        return any(abs(s - middle) < width / 2 + margin for middle, width in self.side_streets)


@dataclass(frozen=True, eq=False)
class Street:
    """A road with its two sides.

    Attributes:
        start, end: the s that it reaches from and to.
        line: its way through the world.
        lane_width: metres.
        lanes: d of the middle and direction (1 as the ego car, -1 oncoming) of each lane.
        left, right: the sides.
    """

    start: float
    end: float
    line: CenterLine
    lane_width: float
    lanes: tuple[tuple[float, int], ...]
    left: Side
    right: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right


def draw_street(rng: np.random.Generator, start: float, end: float) -> Street:
    """A street of any width, in town or out of it, from s = `start` to `end`."""
    line = CenterLine.draw(rng, start, end)
    width = rng.uniform(3.1, 3.7)
    same, oncoming = ((1, 1), (2, 1), (2, 2), (1, 0))[rng.choice(4, p=(0.6, 0.12, 0.2, 0.08))]
    lanes = tuple((index * width, 1 if index < same else -1) for index in range(same + oncoming))
    urban = rng.choice((0.15, 0.6, 0.95), p=(0.2, 0.45, 0.35))
    left = _draw_side(rng, 1, (same + oncoming - 0.5) * width, urban, start, end)
    right = _draw_side(rng, -1, -0.5 * width, urban, start, end)
    if rng.random() < 0.5:
        left = replace(left, side_streets=right.side_streets)
    return Street(start, end, line, width, lanes, left, right)


def _draw_side(
    rng: np.random.Generator, sign: int, edge: float, urban: float, start: float, end: float
) -> Side:
    streets = []
    at = start + rng.uniform(10, 60)
    while at < end - 15:
        streets.append((at, rng.uniform(5.5, 9.0)))
        at += rng.uniform(35, 110)
    return Side(
        sign=sign,
        lanes_end=edge,
        parking=rng.uniform(2.0, 2.3) if rng.random() < 0.25 + 0.5 * urban else 0.0,
        verge=rng.uniform(0.8, 3.0) if rng.random() < 0.75 - 0.4 * urban else 0.0,
        pavement=rng.uniform(1.8, 3.6),
        setback=rng.uniform(0, 1.5) if rng.random() < urban - 0.2 else rng.uniform(2.0, 7.0),
        built=urban,
        side_streets=tuple(streets),
    )


def build_static(street: Street, rng: np.random.Generator) -> Mesh:
    """Mesh, in the world, of all that stands still: the ground and what is beside the road."""
    parts = [*_ground(street), *_repairs(street, rng), *_markings(street, rng)]
    for side in street.sides:
        parts += _furniture(street, side, rng) + _plots(street, side, rng)
    parts += _backdrop(street, rng)
    return street.line.bend(merge(parts))


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
    parts = [strip(span, road, 0.0, Material.ASPHALT, _ASPHALT)]
    stone: Color = (0.36, 0.35, 0.33)
    for side in street.sides:
        outer = side.sign * _FAR_M
        for middle, width in side.side_streets:
            across = middle - width / 2, middle + width / 2
            parts.append(strip(across, (side.kerb, outer), 0.0, Material.ASPHALT, _ASPHALT))
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
            parts.append(strip(run, (inner, edge), KERB_M, Material.SLABS, (0.30, 0.29, 0.27)))
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
        color: Color = (_ASPHALT[0] * tone, _ASPHALT[1] * tone, _ASPHALT[2] * tone)
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


def _furniture(street: Street, side: Side, rng: np.random.Generator) -> list[Mesh]:
    """Trees, lamps, signs and the like, between kerb and pavement."""
    parts = []
    row = side.kerb + side.sign * (side.verge / 2 if side.verge else 0.45)
    spacing = rng.uniform(7, 22)
    trees = rng.random() < (0.75 if side.verge else 0.25)
    for s in np.arange(street.start + rng.uniform(0, spacing), street.end, spacing):
        if side.at_side_street(s, 3.0):
            continue
        if trees and rng.random() < 0.85:
            shape = scenery.tree(rng)
        elif rng.random() < 0.55:
            shape = scenery.lamp_post(rng, side.sign)
        else:
            shape = (scenery.sign, scenery.bollard, scenery.bin_)[rng.integers(3)](rng)
        parts.append(shape.moved((s, row, KERB_M)))
    for middle, width in side.side_streets:
        if rng.random() < 0.7:
            s = middle - width / 2 - 1.2
            parts.append(scenery.sign(rng).moved((s, side.kerb + side.sign * 0.5, KERB_M)))
    return parts


def _plots(street: Street, side: Side, rng: np.random.Generator) -> list[Mesh]:
    """Houses, gardens and what borders them, plot by plot."""
    parts = []
    border = side.walk[1] + side.sign * 0.5
    for start, end in side.runs(street.start, street.end):
        s = start + rng.uniform(1.0, 3.0)
        while s < end - 7:
            length = min(rng.uniform(8, 22), end - s - 1.0)
            if rng.random() < side.built:
                house = scenery.building(rng, length, rng.uniform(7, 12), side.sign)
                parts.append(house.moved((s, side.front, KERB_M)))
            else:
                parts += _garden(side, s, length, rng)
            if side.setback > 2 and length > 4 and rng.random() < 0.65:
                edge = (scenery.hedge if rng.random() < 0.5 else scenery.fence)(rng, length - 2)
                parts.append(edge.moved((s, border, KERB_M)))
                if rng.random() < 0.4:
                    bush_d = (border + side.front) / 2
                    parts.append(scenery.bush(rng).moved((s + length / 2, bush_d, KERB_M)))
            s += length + (
                rng.uniform(0, 1) if rng.random() < side.built - 0.3 else rng.uniform(2, 9)
            )
    return parts


def _garden(side: Side, s: float, length: float, rng: np.random.Generator) -> list[Mesh]:
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        shape = (scenery.tree, scenery.conifer, scenery.bush)[rng.choice(3, p=(0.5, 0.2, 0.3))](rng)
        d = side.front + side.sign * rng.uniform(1.0, 14.0)
        parts.append(shape.moved((s + rng.uniform(0, length), d, KERB_M)))
    return parts


def _backdrop(street: Street, rng: np.random.Generator) -> list[Mesh]:
    """Far houses and trees that close the view at the end of the road and beside it."""
    parts = []
    for side in street.sides:
        for s in np.arange(street.start, street.end, 14.0):
            if not side.at_side_street(s, 8.0):
                shape = scenery.tree(rng, far=True) if rng.random() < 0.7 else scenery.conifer(rng)
                d = side.front + side.sign * rng.uniform(22, 40)
                parts.append(shape.moved((s + rng.uniform(-5, 5), d, KERB_M)))
        for middle, _ in side.side_streets:
            house = scenery.building(rng, 24, 8, side.sign)
            parts.append(house.moved((middle - 12, side.sign * (_FAR_M - 12), 0.0)))
    ahead = street.end - 12
    for d in np.arange(-70, 70, 9.0):
        shape = scenery.tree(rng, far=True) if rng.random() < 0.8 else scenery.conifer(rng)
        parts.append(shape.moved((ahead + rng.uniform(0, 10), d + rng.uniform(-3, 3), 0.0)))
    return parts
