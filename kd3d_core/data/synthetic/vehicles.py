"""Cars of several body types, vans and trucks.

A body is a skin over cross-sections along its length, so that bonnet, windscreen, roof and tail
follow a side profile, with glass where the greenhouse is. Sizes follow KITTI's labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np

from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Color, Mesh, box, loft, merge, quads, repaint, rod

Choice = TypeVar("Choice")

_DARK: Color = (0.015, 0.015, 0.017)
_GLASS: Color = (0.02, 0.025, 0.03)
_RIM: Color = (0.35, 0.36, 0.38)
_RED: Color = (0.35, 0.01, 0.01)
_WHITE: Color = (0.8, 0.8, 0.78)
_AMBER: Color = (0.6, 0.22, 0.02)

_PAINTS: tuple[tuple[float, Color], ...] = (
    (0.20, (0.75, 0.75, 0.74)),
    (0.22, (0.42, 0.43, 0.45)),
    (0.16, (0.14, 0.145, 0.155)),
    (0.16, (0.02, 0.02, 0.022)),
    (0.10, (0.03, 0.07, 0.24)),
    (0.08, (0.36, 0.02, 0.02)),
    (0.03, (0.03, 0.14, 0.06)),
    (0.03, (0.22, 0.14, 0.07)),
    (0.02, (0.65, 0.42, 0.03)),
)


@dataclass(frozen=True)
class Body:
    """Side profile of a body type, in shares of length (from the rear), height and width.

    Attributes:
        length: shortest and longest, metres.
        width: narrowest and widest, metres.
        height: lowest and highest, metres.
        deck: height of the tail below the rear window.
        bonnet: height of the bonnet at the windscreen.
        nose: height of the bonnet's front edge.
        rear: where the rear window begins at the tail, and where it meets the roof.
        front: where the windscreen meets roof and bonnet.
        roof_width: width of the roof.
        belt: height of the lower edge of the side windows.
        pillars: where the pillars between the windows are.
        windows_from: share of the length before which the sides have no windows.
    """

    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    deck: float
    bonnet: float
    nose: float
    rear: tuple[float, float]
    front: tuple[float, float]
    roof_width: float
    belt: float
    pillars: tuple[float, ...]
    windows_from: float = 0.0


HATCHBACK = Body(
    (3.45, 4.2), (1.58, 1.72), (1.42, 1.56), 0.60, 0.62, 0.50,
    (0.02, 0.14), (0.58, 0.75), 0.70, 0.61, (0.24, 0.46),
)  # fmt: skip
SEDAN = Body(
    (4.1, 4.75), (1.62, 1.78), (1.36, 1.48), 0.64, 0.62, 0.50,
    (0.17, 0.32), (0.55, 0.71), 0.68, 0.62, (0.33, 0.50),
)  # fmt: skip
ESTATE = Body(
    (4.2, 4.7), (1.62, 1.78), (1.42, 1.54), 0.60, 0.61, 0.50,
    (0.02, 0.09), (0.57, 0.72), 0.70, 0.61, (0.19, 0.38, 0.53),
)  # fmt: skip
SUV = Body(
    (4.0, 4.7), (1.70, 1.86), (1.60, 1.80), 0.58, 0.61, 0.54,
    (0.02, 0.10), (0.58, 0.70), 0.74, 0.60, (0.22, 0.47),
)  # fmt: skip
CITY_CAR = Body(
    (2.9, 3.5), (1.48, 1.62), (1.46, 1.56), 0.55, 0.60, 0.50,
    (0.02, 0.09), (0.64, 0.85), 0.72, 0.58, (0.35,),
)  # fmt: skip
VAN = Body(
    (4.7, 5.6), (1.78, 1.98), (1.95, 2.5), 0.55, 0.50, 0.40,
    (0.01, 0.03), (0.70, 0.85), 0.84, 0.54, (0.62,), windows_from=0.6,
)  # fmt: skip
MINIBUS = Body(
    (4.5, 5.3), (1.76, 1.92), (1.85, 2.1), 0.53, 0.52, 0.42,
    (0.01, 0.05), (0.70, 0.84), 0.80, 0.54, (0.25, 0.46, 0.66),
)  # fmt: skip

CARS = ((0.36, HATCHBACK), (0.22, SEDAN), (0.16, ESTATE), (0.16, SUV), (0.10, CITY_CAR))
VANS = ((0.6, VAN), (0.4, MINIBUS))


def make_car(rng: np.random.Generator) -> Mesh:
    """A passenger car of any body type."""
    return _vehicle(_choose(rng, CARS), _choose(rng, _PAINTS), rng)


def make_van(rng: np.random.Generator) -> Mesh:
    """A delivery van or a minibus."""
    white = rng.random() < 0.5
    return _vehicle(_choose(rng, VANS), _WHITE if white else _choose(rng, _PAINTS), rng)


def make_truck(rng: np.random.Generator) -> Mesh:
    """A box truck."""
    length, width = rng.uniform(6.0, 10.5), rng.uniform(2.3, 2.55)
    height, cab_height = rng.uniform(2.9, 3.7), rng.uniform(2.4, 2.8)
    cab_length, half = rng.uniform(1.7, 2.1), width / 2
    paint, cargo = _choose(rng, _PAINTS), _choose(rng, ((0.5, _WHITE), (0.5, (0.4, 0.4, 0.4))))
    front, cab_rear = length / 2, length / 2 - cab_length
    cab_y, bonnet = half - 0.08, 1.35
    profile = np.array(
        [(cab_rear, 0.55), (cab_rear, cab_height), (front - 0.25, cab_height),
         (front - 0.02, bonnet), (front, 0.45)]
    )  # fmt: skip
    cab = loft(
        np.stack([np.insert(profile, 1, y, axis=1) for y in (-cab_y, cab_y)]),
        Material.CAR_PAINT,
        paint,
    )
    cab = repaint(
        cab, np.array([4, 5]), Material.CAR_GLASS, _GLASS
    )  # the sloped face of the profile
    window = np.array([(-1.05, bonnet), (-0.45, bonnet), (-0.55, 2.1), (-1.05, 2.1)])
    sides = [
        quads(
            np.insert(window + np.array([front, 0]), 1, sign * (cab_y + 0.005), axis=1),
            Material.CAR_GLASS,
            _GLASS,
        )
        for sign in (-1, 1)
    ]
    stripe = _choose(rng, _PAINTS)
    parts = [
        cab,
        *sides,
        box((-front, -half, 0.95), (cab_rear - 0.1, half, height), Material.PLASTIC, cargo),
        box((-front + 0.1, -half + 0.3, 0.55), (cab_rear, half - 0.3, 0.95), Material.METAL, _DARK),
        box((-front, -half + 0.1, 0.45), (-front + 0.08, half - 0.1, 0.6), Material.METAL, _DARK),
        _panel(-front - 0.005, (-half + 0.3, half - 0.3), (1.5, 1.9), Material.PLASTIC, stripe),
        *_lights(length, half - 0.05, (0.62, 0.85), (0.66, 0.9)),
        *_plates(length, 0.62),
    ]
    for x in (front - 0.85, -front + 1.2, -front + 2.3)[: 3 if length > 8 else 2]:
        parts += _wheel_pair(x, half, 0.46, 0.3)
    return merge(parts).grounded()


def _vehicle(body: Body, paint: Color, rng: np.random.Generator) -> Mesh:
    length, width, height = (rng.uniform(*span) for span in (body.length, body.width, body.height))
    shade = rng.uniform(0.85, 1.1)
    color: Color = (paint[0] * shade, paint[1] * shade, paint[2] * shade)
    wheel = rng.uniform(0.29, 0.33) * (1.12 if body in (SUV, VAN, MINIBUS) else 1.0)
    axles = rng.uniform(0.17, 0.2) * length, rng.uniform(0.79, 0.82) * length
    half = width / 2
    parts = [
        _skin(body, length, half - 0.012, height, color),
        *_lights(length, half - 0.03, *_lamp_heights(body, height)),
        *_plates(length, 0.38 * height),
        *_trim(body, length, half, height, color),
    ]
    for axle in axles:
        parts += _wheel_pair(axle - length / 2, half, wheel, 0.2)
    return merge(parts).grounded()


def _skin(body: Body, length: float, half: float, height: float, paint: Color) -> Mesh:
    """The body with its windows."""
    bottom, belt = 0.14 * height, body.belt * height
    pillar = 0.05 / length
    stations = sorted(
        {
            0.0, 0.015, 0.05, *body.rear, *body.front, 0.93, 0.985, 1.0,
            body.rear[1] + 0.02, body.front[0] - 0.02,
            *(at + side * pillar for at in body.pillars for side in (-1, 1)),
        }
    )  # fmt: skip
    tail, deck = body.rear[0], body.deck
    outline_x = [0.0, 0.02, max(tail, 0.021), body.rear[1], *body.front, 0.97, 1.0]
    deck_end = deck - 0.03 if tail > 0.1 else deck
    outline_z = [deck_end - 0.04, deck_end, deck, 1.0, 1.0, body.bonnet, body.nose, 0.42]
    middle = (body.rear[1] + body.front[0]) / 2
    rings = []
    for at in stations:
        top = np.interp(at, outline_x, outline_z) * height
        arch = 1 - 0.012 * abs((at - middle) * 2) ** 2
        narrow = 1 - 0.16 * max(0.0, (at - 0.9) / 0.1) ** 2 - 0.07 * max(0.0, 1 - at / 0.06) ** 2
        w = half * narrow
        shoulder = min(belt, top - 0.015)
        above = np.clip((top - shoulder) / (height - belt), 0, 1)
        edge = w * (0.965 - (0.965 - body.roof_width) * above)
        lip = bottom + (0.06 * height if at in (0.0, 1.0) else 0.0)
        half_ring = [
            (w * 0.90, lip),
            (w * 0.985, lip + 0.07 * height),
            (w, (lip + shoulder) / 2),
            (w * 0.965, shoulder),
            (edge, top * arch - 0.03 * above),
            (edge * 0.6, top * arch),
        ]
        ring = half_ring + [(-y, z) for y, z in half_ring[::-1]]
        rings.append([((at - 0.5) * length, y, z) for y, z in ring])
    mesh = loft(np.array(rings), Material.CAR_PAINT, paint)
    return repaint(mesh, _glass_faces(body, stations), Material.CAR_GLASS, _GLASS)


def _glass_faces(body: Body, stations: list[float]) -> np.ndarray:
    """Faces of the skin that are windows: the loft's order is (station, ring point, triangle)."""
    points, side_windows, across = 12, (3, 7), (4, 5, 6)
    faces = []
    for index, (start, end) in enumerate(pairwise(stations)):
        middle = (start + end) / 2
        tall = body.rear[0] + 0.25 * (body.rear[1] - body.rear[0]) < middle
        tall = tall and middle < body.front[1] - 0.25 * (body.front[1] - body.front[0])
        at_pillar = any(abs(middle - at) < 0.012 for at in body.pillars)
        slots: tuple[int, ...] = ()
        if tall and not at_pillar and middle > body.windows_from:
            slots = side_windows
        in_windscreen = body.front[0] <= middle < body.front[1]
        in_rear_window = body.rear[0] <= middle < body.rear[1] and body.windows_from == 0
        if in_windscreen or in_rear_window:
            slots = across
        faces += [2 * (index * points + slot) + half for slot in slots for half in (0, 1)]
    return np.array(faces)


def _lamp_heights(body: Body, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lower and upper edge of the front lights, and of the rear ones, metres."""
    front = 0.37 * height, 0.46 * height
    tall_tail = body.rear[0] < 0.1
    return front, (0.42 * height, (0.60 if tall_tail else 0.54) * min(height, 1.8))


def _panel(
    x: float, y: tuple[float, float], z: tuple[float, float], material: Material, color: Color
) -> Mesh:
    """Upright rectangle that faces along x."""
    corners = [(x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1])]
    return quads(np.array(corners), material, color)


def _lights(
    length: float, half: float, front: tuple[float, float], rear: tuple[float, float]
) -> list[Mesh]:
    nose, tail = length / 2, -length / 2
    parts = []
    for sign in (-1, 1):
        outer, inner, wing = sign * half * 0.84, sign * half * 0.5, sign * half * 0.95
        y = min(outer, inner), max(outer, inner)
        parts += [
            box((nose - 0.12, y[0], front[0]), (nose, y[1], front[1]), Material.LAMP, _WHITE),
            box(
                (tail + 0.004, min(wing, sign * half * 0.68), rear[0]),
                (tail + 0.12, max(wing, sign * half * 0.68), rear[1]),
                Material.REFLECTOR,
                _RED,
            ),
            _panel(
                nose + 0.002,
                (min(outer, sign * half * 0.74), max(outer, sign * half * 0.74)),
                front,
                Material.LAMP,
                _AMBER,
            ),
        ]
    return parts


def _plates(length: float, z: float) -> list[Mesh]:
    return [
        _panel(
            sign * (length / 2 + 0.004), (-0.26, 0.26), (z - 0.055, z + 0.055),
            Material.REFLECTOR, _WHITE,
        )
        for sign in (-1, 1)
    ]  # fmt: skip


def _trim(body: Body, length: float, half: float, height: float, paint: Color) -> list[Mesh]:
    """Grille, bumpers' dark lower halves and mirrors."""
    nose, low = length / 2, 0.15 * height
    mirror_x = (body.front[1] - 0.5 - 0.04) * length
    belt = body.belt * height
    parts = [
        box(
            (nose - 0.1, -half * 0.45, 0.28 * height), (nose + 0.001, half * 0.45, 0.42 * height),
            Material.PLASTIC, _DARK,
        ),
        box(
            (nose - 0.25, -half * 0.8, low), (nose - 0.01, half * 0.8, 0.23 * height),
            Material.PLASTIC, _DARK,
        ),
        box(
            (-nose + 0.01, -half * 0.85, low), (-nose + 0.25, half * 0.85, 0.26 * height),
            Material.PLASTIC, _DARK,
        ),
    ]  # fmt: skip
    for sign in (-1, 1):
        y = sorted((sign * half * 0.9, sign * half))
        parts.append(
            box(
                (mirror_x, y[0], belt), (mirror_x + 0.1, y[1], belt + 0.12),
                Material.CAR_PAINT, paint,
            )
        )  # fmt: skip
    return parts


def _wheel_pair(x: float, half: float, radius: float, width: float) -> list[Mesh]:
    """Two wheels on an axle, in dark arches, within `half` of the middle."""
    wheel = _unit_wheel()
    pair = []
    for sign in (-1, 1):
        scaled = wheel.triangles * np.array([radius, sign * width, radius], np.float32)
        shift = np.array([x, sign * (half - width), radius], np.float32)
        pair.append(replace(wheel, triangles=scaled + shift))
    return pair


@cache
def _unit_wheel() -> Mesh:
    """A wheel of radius and width 1 around the y axis, its outer side at y = 1, in its arch."""
    parts = []
    for start, end, radius, material, color in (
        (0.0, 0.97, 1.16, Material.PLASTIC, _DARK),
        (0.0, 0.99, 1.0, Material.RUBBER, (0.03, 0.03, 0.032)),
        (0.75, 1.0, 0.62, Material.METAL, _RIM),
    ):
        part = rod((0, start, 0), (0, end, 0), (radius, radius), material, color, 20)
        parts.append(_above(part, -0.6) if radius > 1 else part)
    return merge(parts)


def _above(mesh: Mesh, z: float) -> Mesh:
    """The mesh's faces that lie wholly above a height."""
    keep = mesh.triangles[..., 2].min(1) > z
    return Mesh(mesh.triangles[keep], mesh.normals[keep], mesh.material[keep], mesh.color[keep])


def _choose(rng: np.random.Generator, weighted: Sequence[tuple[float, Choice]]) -> Choice:
    weights = np.array([weight for weight, _ in weighted])
    return weighted[rng.choice(len(weighted), p=weights / weights.sum())][1]
