"""The street: how its strips lie beside each other along its way through the world.

Street coordinates: s along the road from the ego car's start, d to the left of the middle of its
lane, z up, metres. Everything is built on a straight road and then bent along its centre line.
"""

from dataclasses import dataclass, replace

import numpy as np

from kd3d_core.data.synthetic.mesh import Color, Mesh

KERB_M = 0.12
"""Height of the pavement over the road."""
_ASPHALT: Color = (0.105, 0.105, 0.11)


@dataclass(frozen=True, eq=False)
class CenterLine:
    """The way of the ego car's lane through the world, as a table over s.

    Attributes:
        s: `(N,)` metres, evenly spaced.
        x, y, z: `(N,)` metres.
        heading: `(N,)` radians.
    """

    s: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    heading: np.ndarray

    @classmethod
    def draw(
        cls, rng: np.random.Generator, start: float, end: float, hilly: bool = False
    ) -> "CenterLine":
        """Straight or softly winding, from s = `start` to `end`, through the origin at s = 0.

        It is level, or if `hilly` half of them rise and fall by up to 4 %.
        """
        s = np.arange(np.floor(start) - 100, end + 100, 0.5)
        winding = rng.uniform(0.05, 0.3) if rng.random() < 0.6 else 0.0
        wavelength, phase = rng.uniform(220, 420), rng.uniform(0, 2 * np.pi)
        heading = winding * np.sin(2 * np.pi * s / wavelength + phase)
        heading -= np.interp(0.0, s, heading)
        x = np.cumsum(np.cos(heading)) * 0.5
        y = np.cumsum(np.sin(heading)) * 0.5
        z = np.zeros_like(s)
        if hilly and rng.random() < 0.5:
            steepest, wavelength = rng.uniform(0.005, 0.04), rng.uniform(120, 400)
            turns = 2 * np.pi / wavelength
            z = steepest / turns * np.sin(turns * s + rng.uniform(0, 2 * np.pi))
        x, y, z = (way - np.interp(0.0, s, way) for way in (x, y, z))
        return cls(s, x, y, z, heading)

    def place(self, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, ...]:
        """World x, y and z of the road, and its heading, at street coordinates."""
        heading = np.interp(s, self.s, self.heading)
        x = np.interp(s, self.s, self.x) - d * np.sin(heading)
        y = np.interp(s, self.s, self.y) + d * np.cos(heading)
        return x, y, np.interp(s, self.s, self.z), heading

    def grade(self, s: float) -> float:
        """Metres that the road rises per metre."""
        return float(np.diff(np.interp([s - 1.0, s + 1.0], self.s, self.z))[0] / 2)

    def bend(self, mesh: Mesh) -> Mesh:
        """A mesh in street coordinates, in the world."""
        points = mesh.triangles.astype(np.float64)
        x, y, z, heading = self.place(points[..., 0], points[..., 1])
        triangles = np.stack([x, y, z + points[..., 2]], -1).astype(np.float32)
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
        wooded: share of the other plots that trees and bushes fill.
        paved: whether the pavement is of slabs, and not of the grass beside it.
        avenue: whether the trees beside the road are tall, and reach over it.
    """

    sign: int
    lanes_end: float
    parking: float
    verge: float
    pavement: float
    setback: float
    built: float
    side_streets: tuple[tuple[float, float], ...]
    wooded: float = 0.0
    paved: bool = True
    avenue: bool = False

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
        asphalt: albedo of the road.
        marked: whether there are lines on it.
        varied: whether all kinds of things may stand beside it; see `draw_street`.
    """

    start: float
    end: float
    line: CenterLine
    lane_width: float
    lanes: tuple[tuple[float, int], ...]
    left: Side
    right: Side
    asphalt: Color
    marked: bool
    varied: bool

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right


def draw_street(rng: np.random.Generator, start: float, end: float, varied: bool = False) -> Street:
    """A street of any width, in town or out of it, from s = `start` to `end`.

    A `varied` one may have woods, avenues, halls, rails, verges, any asphalt and no lines, rise and
    fall, or be a lane between houses, as real ones do; the others have houses and gardens behind
    pavements.
    """
    line = CenterLine.draw(rng, start, end, hilly=varied)
    if varied and rng.random() < 0.2:
        return _draw_lane(line, rng, start, end)
    width = rng.uniform(3.1, 3.7)
    same, oncoming = ((1, 1), (2, 1), (2, 2), (1, 0))[rng.choice(4, p=(0.6, 0.12, 0.2, 0.08))]
    lanes = tuple((index * width, 1 if index < same else -1) for index in range(same + oncoming))
    shares = (0.4, 0.35, 0.25) if varied else (0.2, 0.45, 0.35)
    urban = rng.choice((0.15, 0.6, 0.95), p=shares)
    left = _draw_side(rng, 1, (same + oncoming - 0.5) * width, urban, start, end)
    right = _draw_side(rng, -1, -0.5 * width, urban, start, end)
    if rng.random() < 0.5:
        left = replace(left, side_streets=right.side_streets)
    street = Street(start, end, line, width, lanes, left, right, _ASPHALT, True, varied)
    return _with_variety(street, urban, rng) if varied else street


def _draw_lane(line: CenterLine, rng: np.random.Generator, start: float, end: float) -> Street:
    """As narrow as streets of old towns: room for one car, next to walls and parked ones."""
    width, urban = rng.uniform(2.7, 3.6), rng.uniform(0.7, 1.0)
    left, right = (
        replace(
            _draw_side(rng, sign, sign * width / 2, urban, start, end),
            verge=0.0,
            pavement=rng.uniform(0.8, 1.6),
            setback=rng.uniform(0.0, 0.8) if rng.random() < 0.7 else rng.uniform(1.0, 4.0),
        )
        for sign in (1, -1)
    )
    street = Street(start, end, line, width, ((0.0, 1),), left, right, _ASPHALT, True, True)
    return replace(_with_variety(street, urban, rng), marked=False)


def _with_variety(street: Street, urban: float, rng: np.random.Generator) -> Street:
    left, right = (
        replace(
            side,
            wooded=rng.uniform(0.5, 1.0) if rng.random() < 0.6 else 0.0,
            paved=rng.random() < 0.4 + 0.6 * urban,
            avenue=rng.random() < 0.35,
        )
        for side in street.sides
    )
    tone = np.exp(rng.uniform(np.log(0.07), np.log(0.24)))
    red, blue = rng.uniform(0.96, 1.06, 2) * tone
    asphalt: Color = (float(red), float(tone), float(blue))
    return replace(street, left=left, right=right, asphalt=asphalt, marked=bool(rng.random() < 0.8))


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
