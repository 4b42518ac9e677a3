"""What stands beside the road: houses, gardens, woods, walls and street furniture."""

import numpy as np

from kd3d_core.data.synthetic import plants, scenery
from kd3d_core.data.synthetic.ground import FAR_M, build_ground
from kd3d_core.data.synthetic.mesh import Mesh, merge
from kd3d_core.data.synthetic.street import KERB_M, Side, Street


def build_static(street: Street, rng: np.random.Generator) -> Mesh:
    """Mesh, in the world, of all that stands still: the ground and what is beside the road."""
    parts = build_ground(street, rng)
    for side in street.sides:
        parts += _furniture(street, side, rng) + _plots(street, side, rng)
        if street.varied:
            parts += _rail(side, street, rng) + _clutter(street, side, rng)
    parts += _backdrop(street, rng)
    return street.line.bend(merge(parts))


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
            shape = plants.tree(rng, tall=side.avenue)
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
                is_hall = street.varied and rng.random() < 0.25
                kind = scenery.hall if is_hall else scenery.building
                house = kind(rng, length, rng.uniform(7, 12), side.sign)
                parts.append(house.moved((s, side.front, KERB_M)))
            elif side.wooded and rng.random() < side.wooded:
                d = side.walk[1] + side.sign * rng.uniform(2.2, 4.0)
                wood = plants.thicket(rng, length, rng.uniform(2.5, 10.0))
                parts.append(wood.moved((s, d, KERB_M)))
                s += length
                continue
            else:
                parts += _garden(side, s, length, rng)
            if side.setback > 2 and length > 4 and rng.random() < 0.65:
                kinds = (plants.hedge, scenery.fence, scenery.wall)[: 3 if street.varied else 2]
                edge = kinds[rng.integers(len(kinds))](rng, length - 2)
                parts.append(edge.moved((s, border, KERB_M)))
                if rng.random() < 0.4:
                    bush_d = (border + side.front) / 2
                    parts.append(plants.bush(rng).moved((s + length / 2, bush_d, KERB_M)))
            s += length + (
                rng.uniform(0, 1) if rng.random() < side.built - 0.3 else rng.uniform(2, 9)
            )
    return parts


def _rail(side: Side, street: Street, rng: np.random.Generator) -> list[Mesh]:
    """A guard rail beside a road without houses, now and then."""
    if side.built > 0.3 or rng.random() < 0.5:
        return []
    d = side.kerb + side.sign * 0.5
    runs = [run for run in side.runs(street.start, street.end) if run[1] - run[0] > 8]
    return [
        scenery.guard_rail(rng, end - start - 4).moved((start + 2, d, KERB_M))
        for start, end in runs
    ]


def _clutter(street: Street, side: Side, rng: np.random.Generator) -> list[Mesh]:
    """What stands about between the pavement and the houses."""
    parts = []
    shapes = (scenery.bollard, scenery.bin_, scenery.sign, scenery.hoarding, plants.bush)
    room = max(side.setback - 0.5, 0.6)
    for _ in range(rng.poisson(rng.uniform(0, 0.12) * (street.end - street.start))):
        s = rng.uniform(street.start, street.end)
        d = side.walk[1] + side.sign * rng.uniform(0.2, room)
        if not side.at_side_street(s, 2.0):
            parts.append(shapes[rng.integers(len(shapes))](rng).moved((s, d, KERB_M)))
    return parts


def _garden(side: Side, s: float, length: float, rng: np.random.Generator) -> list[Mesh]:
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        shape = (plants.tree, plants.conifer, plants.bush)[rng.choice(3, p=(0.5, 0.2, 0.3))](rng)
        d = side.front + side.sign * rng.uniform(1.0, 14.0)
        parts.append(shape.moved((s + rng.uniform(0, length), d, KERB_M)))
    return parts


def _backdrop(street: Street, rng: np.random.Generator) -> list[Mesh]:
    """Far houses and trees that close the view at the end of the road and beside it."""
    parts = []
    for side in street.sides:
        closed = street.varied and rng.random() < 0.6
        for s in np.arange(street.start, street.end, 14.0):
            if closed and not side.at_side_street(s + 7, 12.0):
                wood = plants.thicket(rng, 14.0, rng.uniform(5, 13), far=True)
                d = side.front + side.sign * rng.uniform(16, 21)
                parts.append(wood.moved((s, d, KERB_M)))
            if not side.at_side_street(s, 8.0):
                shape = plants.tree(rng, far=True) if rng.random() < 0.7 else plants.conifer(rng)
                d = side.front + side.sign * rng.uniform(22, 40)
                parts.append(shape.moved((s + rng.uniform(-5, 5), d, KERB_M)))
        for middle, _ in side.side_streets:
            house = scenery.building(rng, 24, 8, side.sign)
            parts.append(house.moved((middle - 12, side.sign * (FAR_M - 12), 0.0)))
    ahead = street.end - 12
    if street.varied and rng.random() < 0.7:
        wood = plants.thicket(rng, 140.0, rng.uniform(6, 14), far=True)
        parts.append(wood.placed(ahead - 4, -70.0, 0.0, np.pi / 2))
    for d in np.arange(-70, 70, 9.0):
        shape = plants.tree(rng, far=True) if rng.random() < 0.8 else plants.conifer(rng)
        parts.append(shape.moved((ahead + rng.uniform(0, 10), d + rng.uniform(-3, 3), 0.0)))
    return parts
