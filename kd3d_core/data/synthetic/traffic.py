"""Who is on the street: vehicles, pedestrians and cyclists, and how they move."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kd3d_core.data.synthetic import people, vehicles
from kd3d_core.data.synthetic.mesh import Color, Mesh
from kd3d_core.data.synthetic.street import KERB_M, Side, Street

_POLES_M = 0.8  # how much of a pavement without a verge is left to poles
_EGO_REACH_M = 7.0  # room that others leave to the ego car's middle at the start
_TIME_STEP_S = 0.25
_CROSSING_FROM_M = 70.0  # farther along a side street than anybody sees
_TWO_STEPS_M, _PEDAL_TURN_M = 1.4, 5.0


class Shape(Protocol):
    """Something that can be seen, as a mesh in its own frame: x forward, on z = 0, centred."""

    def mesh(self, travelled_m: float) -> Mesh:
        """The mesh after a distance travelled."""
        ...


@dataclass(frozen=True, eq=False)
class Vehicle:
    """A shape that never changes."""

    body: Mesh

    def mesh(self, travelled_m: float) -> Mesh:
        return self.body


@dataclass(frozen=True)
class Walker:
    """A pedestrian; a stride of 0 stands still."""

    looks: people.Looks
    phase: float
    stride: float

    def mesh(self, travelled_m: float) -> Mesh:
        phase = self.phase + travelled_m * 2 * np.pi / _TWO_STEPS_M
        return people.pedestrian(self.looks, phase, self.stride)


@dataclass(frozen=True)
class Rider:
    """A cyclist."""

    looks: people.Looks
    bike: Color
    phase: float

    def mesh(self, travelled_m: float) -> Mesh:
        phase = self.phase - travelled_m * 2 * np.pi / _PEDAL_TURN_M
        return people.cyclist(self.looks, self.bike, phase)


@dataclass(frozen=True, eq=False)
class Actor:
    """Something that KITTI labels, on its way along a line in street coordinates.

    Attributes:
        type: KITTI's class name.
        shape: what it looks like.
        s, d: where it is at time 0, metres.
        z: height of what it stands on.
        heading: to the road's direction, radians.
        speed: along its heading, metres per second.
        sway: amplitude in metres of the slow change of its position in the traffic.
    """

    type: str
    shape: Shape
    s: float
    d: float
    z: float
    heading: float
    speed: float = 0.0
    sway: float = 0.0

    def travelled(self, time_s: float | np.ndarray) -> float | np.ndarray:
        """Metres along its heading since time 0."""
        return self.speed * time_s + self.sway * np.sin(0.4 * np.asarray(time_s))

    def place(self, time_s: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """s and d at a time."""
        way = np.asarray(self.travelled(time_s))
        return self.s + way * np.cos(self.heading), self.d + way * np.sin(self.heading)


def draw_traffic(
    street: Street, rng: np.random.Generator, ego_speed: float, duration_s: float
) -> list[Actor]:
    """Everything that moves or could, such that nothing runs into anything while it lasts."""
    crowd = _Crowd(ego_speed, duration_s)
    for index in range(len(street.lanes)):
        _fill_lane(crowd, street, index, rng, ego_speed)
    for side in street.sides:
        _park(crowd, street, side, rng)
        _cross(crowd, street, side, rng)
        _fill_side_streets(crowd, side, rng)
    _add_cyclists(crowd, street, rng)
    for side in street.sides:
        _add_walkers(crowd, street, side, rng)
    if duration_s == 0:
        _add_crossing_people(crowd, street, rng)
    return crowd.actors


class _Crowd:
    """Actors, and whether there is room for one more at all times."""

    def __init__(self, ego_speed: float, duration_s: float) -> None:
        self.actors: list[Actor] = []
        self.duration_s = duration_s
        self._times = np.arange(0, duration_s + _TIME_STEP_S, _TIME_STEP_S)
        ego = np.stack([ego_speed * self._times, np.zeros_like(self._times)], -1)
        self._ways = [ego]
        self._sizes = [(_EGO_REACH_M, 1.0)]

    def askew(self, rng: np.random.Generator, deviation: float) -> float:
        """A small random turn, radians; none in a drive, whose actors go where they head."""
        return 0.0 if self.duration_s else float(rng.normal(0, deviation))

    def add(self, actor: Actor, length: float, width: float) -> None:
        """Add an actor if its place, `length` by `width` around it, stays free."""
        way = np.stack(actor.place(self._times), -1)
        along = abs(np.cos(actor.heading)), abs(np.sin(actor.heading))
        size = (
            along[0] * length / 2 + along[1] * width / 2,
            along[1] * length / 2 + along[0] * width / 2,
        )
        apart = np.abs(np.array(self._ways) - way)
        reach = np.array(self._sizes)[:, None] + np.array(size)
        if (apart < reach).all(-1).any():
            return
        self.actors.append(actor)
        self._ways.append(way)
        self._sizes.append(size)


def _vehicle(rng: np.random.Generator) -> tuple[str, Mesh]:
    kind = ("Car", "Van", "Truck")[rng.choice(3, p=(0.86, 0.08, 0.06))]
    make = {"Car": vehicles.make_car, "Van": vehicles.make_van, "Truck": vehicles.make_truck}[kind]
    return kind, make(rng)


def _width(mesh: Mesh) -> float:
    return float(mesh.bounds[1, 1] * 2)


def _length(mesh: Mesh) -> float:
    return float(mesh.bounds[1, 0] * 2)


def _fill_lane(
    crowd: _Crowd, street: Street, index: int, rng: np.random.Generator, ego_speed: float
) -> None:
    d, direction = street.lanes[index]
    speed = ego_speed * (1.0 if index == 0 else rng.uniform(0.7, 1.3))
    drift = (direction * speed - ego_speed) * crowd.duration_s
    start, end = street.start, street.end
    start, end = start - max(drift, 0.0), end - min(drift, 0.0)
    mean_gap = np.exp(rng.uniform(np.log(10), np.log(150)))
    s = start + rng.uniform(0, 20)
    while s < end:
        kind, mesh = _vehicle(rng)
        length = _length(mesh)
        s += length / 2
        heading = (0.0 if direction > 0 else np.pi) + crowd.askew(rng, 0.015)
        offset = rng.normal(0, 0.18)
        # Small enough that two neighbours never close the gap that is left between them.
        sway = rng.uniform(-0.8, 0.8) if crowd.duration_s else 0.0
        actor = Actor(kind, Vehicle(mesh), s, d + offset, 0.0, heading, speed, sway)
        crowd.add(actor, length + 2.0, _width(mesh) + 0.2)
        s += length / 2 + 4.0 + rng.exponential(mean_gap)


def _park(crowd: _Crowd, street: Street, side: Side, rng: np.random.Generator) -> None:
    if not side.parking:
        return
    taken = rng.uniform(0.05, 0.9)
    s = street.start
    while s < street.end:
        if rng.random() > taken:
            s += rng.uniform(4.0, 7.0)
            continue
        kind, mesh = _vehicle(rng)
        length = _length(mesh)
        s += length / 2
        with_traffic = rng.random() < 0.9
        heading = 0.0 if (side.sign < 0) == with_traffic else np.pi
        heading += rng.normal(0, 0.03)
        d = side.kerb - side.sign * (0.2 + mesh.bounds[1, 1] + rng.uniform(0, 0.15))
        if kind != "Truck" and not side.at_side_street(s, length / 2 + 1):
            actor = Actor(kind, Vehicle(mesh), s, d, 0.0, heading)
            crowd.add(actor, length + 0.4, _width(mesh) + 0.1)
        s += length / 2 + rng.uniform(0.6, 2.0)


def _cross(crowd: _Crowd, street: Street, side: Side, rng: np.random.Generator) -> None:
    """Cars on their way over the road, out of a side street or into it."""
    other = street.right if side.sign > 0 else street.left
    for middle, width in side.side_streets:
        if rng.random() < 0.5:
            continue
        mesh = vehicles.make_car(rng)
        length, way = _length(mesh), rng.choice((-1, 1))
        crossroads = (middle, width) in other.side_streets
        speed = rng.uniform(2.5, 6.0)
        heading = way * np.pi / 2 + crowd.askew(rng, 0.1 if crossroads else 0.35)
        s = middle + way * width / 4
        inner, outer = other.kerb + side.sign * length / 2, side.kerb + side.sign * length
        if crowd.duration_s:
            if not crossroads:
                continue  # its way would end at the kerb over there
            speed = min(speed, 2 * _CROSSING_FROM_M / crowd.duration_s)
            inner = -way * _CROSSING_FROM_M
            outer = way * (_CROSSING_FROM_M - speed * crowd.duration_s)
        d = rng.uniform(min(inner, outer), max(inner, outer))
        actor = Actor("Car", Vehicle(mesh), s, d, 0.0, heading, speed)
        crowd.add(actor, length + 1.5, _width(mesh) + 0.6)


def _fill_side_streets(crowd: _Crowd, side: Side, rng: np.random.Generator) -> None:
    """Cars that wait at the road and park along the streets that join it."""
    inwards = -side.sign * np.pi / 2
    for middle, width in side.side_streets:
        if rng.random() < 0.4:
            kind, mesh = _vehicle(rng)
            length = _length(mesh)
            d = side.kerb + side.sign * (1.2 + length / 2 + rng.uniform(0, 1.5))
            s = middle - side.sign * width / 4
            actor = Actor(kind, Vehicle(mesh), s, d, 0.0, inwards + rng.normal(0, 0.12))
            crowd.add(actor, length + 1, _width(mesh) + 0.3)
        _park_in_side_street(crowd, side, middle, width, rng)


def _park_in_side_street(
    crowd: _Crowd, side: Side, middle: float, width: float, rng: np.random.Generator
) -> None:
    slanted = rng.random() < 0.3
    for edge in (-1, 1):
        s = middle + edge * (width / 2 - 1.05)
        distance = rng.uniform(7, 14)
        while distance < 40:
            if rng.random() > 0.4:
                distance += rng.uniform(5.0, 7.0)
                continue
            kind, mesh = _vehicle(rng)
            if kind != "Truck":
                heading = rng.choice((-1, 1)) * np.pi / 2
                heading += rng.uniform(-0.8, 0.8) if slanted else rng.normal(0, 0.05)
                d = side.kerb + side.sign * distance
                actor = Actor(kind, Vehicle(mesh), s, d, 0.0, heading)
                crowd.add(actor, _length(mesh) + 0.5, _width(mesh) + 0.2)
            distance += _length(mesh) + rng.uniform(0.8, 3.0)


def _add_cyclists(crowd: _Crowd, street: Street, rng: np.random.Generator) -> None:
    """Riders at the right edge of the outer lanes."""
    outermost = ((street.lanes[0], street.right), (street.lanes[-1], street.left))
    for (_, direction), side in outermost:
        along = 1 if side.sign < 0 else direction
        for _ in range(rng.poisson(1.3)):
            speed = rng.uniform(3.0, 6.0)
            d = side.lanes_end - side.sign * rng.uniform(0.4, 0.9)
            s = rng.uniform(4, min(street.end, street.start + 160 + 2 * speed * crowd.duration_s))
            bike: Color = tuple(rng.uniform(0.02, 0.5, 3).tolist())
            rider = Rider(people.draw_looks(rng), bike, rng.uniform(0, 2 * np.pi))
            heading = (0.0 if along > 0 else np.pi) + crowd.askew(rng, 0.04)
            crowd.add(Actor("Cyclist", rider, s, d, 0.0, heading, speed), 2.4, 0.9)


def _add_walkers(crowd: _Crowd, street: Street, side: Side, rng: np.random.Generator) -> None:
    inner, outer = side.walk
    if not side.verge and side.pavement > _POLES_M + 0.75:
        inner += side.sign * _POLES_M
    density = rng.uniform(0.0, 0.09)
    for _ in range(rng.poisson(density * (street.end - street.start))):
        s = rng.uniform(street.start, street.end)
        heading = rng.choice((0.0, np.pi)) + crowd.askew(rng, 0.04)
        speed = rng.uniform(0.9, 1.6) if rng.random() < 0.75 else 0.0
        if speed == 0:
            heading = rng.uniform(-np.pi, np.pi)
        for _ in range(rng.choice((1, 2, 3), p=(0.7, 0.24, 0.06))):
            d = inner + side.sign * rng.uniform(0.4, abs(outer - inner) - 0.35)
            reach = s + np.cos(heading) * speed * np.array([0.0, crowd.duration_s])
            if any(
                side.at_side_street(at, 1.0) for at in np.arange(reach.min(), reach.max() + 2, 2)
            ):
                continue
            crowd.add(_walker(rng, s, d, KERB_M, heading, speed), 0.8, 0.75)
            s += rng.uniform(-0.5, 0.5)


def _add_crossing_people(crowd: _Crowd, street: Street, rng: np.random.Generator) -> None:
    """People on the road, on their way to its other side."""
    for _ in range(rng.poisson(0.8)):
        s = rng.uniform(7, 45)
        d = rng.uniform(street.right.lanes_end, street.left.lanes_end)
        heading = rng.choice((-1, 1)) * np.pi / 2 + rng.normal(0, 0.2)
        speed = rng.uniform(0.9, 1.7)
        crowd.add(_walker(rng, s, d, 0.0, heading, speed), 1.0, 1.0)


def _walker(
    rng: np.random.Generator, s: float, d: float, z: float, heading: float, speed: float
) -> Actor:
    stride = rng.uniform(0.3, 0.5) if speed else rng.uniform(0.0, 0.06)
    shape = Walker(people.draw_looks(rng), rng.uniform(0, 2 * np.pi), stride)
    return Actor("Pedestrian", shape, s, d, z, heading, speed)
