"""Pedestrians and cyclists of limbs, in any phase of a step or of a turn of the pedals.

Both face +x and stand on z = 0; a shape is drawn once and posed by a phase in radians.
"""

from dataclasses import dataclass

import numpy as np
import trimesh

from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import Color, Mesh, Point, ellipsoid, limb, merge, rod, smooth

_SKINS: tuple[Color, ...] = ((0.55, 0.36, 0.27), (0.42, 0.25, 0.17), (0.16, 0.08, 0.05))
_HAIRS: tuple[Color, ...] = ((0.02, 0.015, 0.01), (0.10, 0.05, 0.02), (0.30, 0.20, 0.08))
_BLACK: Color = (0.015, 0.015, 0.015)


@dataclass(frozen=True)
class Looks:
    """Size and clothes of a person.

    Attributes:
        height: metres.
        girth: thickness of limbs and trunk, 1 for the average.
        top, trousers, shoes, skin, hair: colours.
        skirt: whether the upper legs are covered.
        backpack: whether there is one.
    """

    height: float
    girth: float
    top: Color
    trousers: Color
    shoes: Color
    skin: Color
    hair: Color
    skirt: bool
    backpack: bool


def draw_looks(rng: np.random.Generator) -> Looks:
    """Anybody, children seldom."""
    height = (
        rng.uniform(1.2, 1.5) if rng.random() < 0.08 else np.clip(rng.normal(1.72, 0.08), 1.5, 1.95)
    )
    return Looks(
        height=float(height),
        girth=float(rng.uniform(0.85, 1.25)),
        top=_cloth(rng, 0.5),
        trousers=_cloth(rng, 0.2),
        shoes=_cloth(rng, 0.1),
        skin=_SKINS[rng.choice(3, p=(0.7, 0.2, 0.1))],
        hair=_HAIRS[rng.integers(3)],
        skirt=bool(rng.random() < 0.15),
        backpack=bool(rng.random() < 0.25),
    )


def _cloth(rng: np.random.Generator, colorful: float) -> Color:
    value = rng.uniform(0.02, 0.6) ** 1.3
    saturation = rng.uniform(0.3, 0.9) if rng.random() < colorful else rng.uniform(0, 0.25)
    hue = rng.uniform(0, 1)
    wheel = 0.5 + 0.5 * np.cos(2 * np.pi * (hue - np.array([0, 1 / 3, 2 / 3])))
    red, green, blue = value * (1 - saturation + saturation * wheel)
    return (float(red), float(green), float(blue))


def pedestrian(looks: Looks, phase: float, stride: float) -> Mesh:
    """A person on foot.

    Args:
        looks: who it is.
        phase: of the step, radians; a full turn is two steps.
        stride: swing of the legs at the hip, radians; 0 for someone who stands.
    """
    scale = looks.height / 1.75
    hip, shoulder = 0.92 * scale, 1.44 * scale
    parts = []
    for side in (-1, 1):
        swing = stride * np.sin(phase + (0 if side > 0 else np.pi))
        bend = 0.15 + 0.9 * stride * max(0.0, np.cos(phase + (0 if side > 0 else np.pi)))
        parts += _leg((0.0, side * 0.09 * scale, hip), swing, bend, scale, looks)
        parts += _arm(
            (0.0, side * 0.21 * scale * looks.girth**0.5, shoulder),
            -0.8 * swing,
            0.25,
            scale,
            looks,
        )
    parts += _trunk((0.0, 0.0, hip), (0.02, 0.0, shoulder), scale, looks)
    parts += _head((0.04, 0.0, looks.height - 0.12 * scale), scale, looks)
    if looks.skirt:
        parts.append(
            rod((0, 0, hip - 0.45 * scale), (0, 0, hip + 0.08), (0.24 * scale, 0.14 * scale),
                Material.CLOTH, looks.trousers, 14)
        )  # fmt: skip
    return merge(parts).grounded()


def cyclist(looks: Looks, bike: Color, phase: float) -> Mesh:
    """A person riding a bicycle; `phase` is that of the pedals, radians."""
    scale = looks.height / 1.75
    seat, crank = (-0.22, 0.0, 0.95 * scale), np.array([0.0, 0.0, 0.29])
    bar = (0.48, 0.0, 1.0 * scale)
    parts = _bicycle(seat, bar, crank, bike)
    hip, shoulder = (
        np.array([seat[0] + 0.02, 0.0, seat[2] + 0.06]),
        np.array([0.14, 0.0, 1.42 * scale]),
    )
    for side in (-1, 1):
        turn = phase + (0 if side > 0 else np.pi)
        pedal = crank + np.array([0.17 * np.cos(turn), side * 0.11, 0.17 * np.sin(turn)])
        start = hip + np.array([0, side * 0.09, 0])
        knee = _joint(start, pedal + np.array([-0.05, 0, 0.08]), 0.44 * scale, 0.46 * scale)
        parts += _bent_leg(start, knee, pedal, looks)
        top = shoulder + np.array([0, side * 0.19 * scale, 0])
        hand = np.array([bar[0], side * 0.24, bar[2] + 0.02])
        elbow = (top + hand) / 2 + np.array([0, side * 0.04, -0.08])
        girth = looks.girth
        parts += [
            limb(top, elbow, (0.055 * girth, 0.045 * girth), Material.CLOTH, looks.top),
            limb(elbow, hand, (0.042 * girth, 0.035 * girth), Material.CLOTH, looks.top),
            ellipsoid(hand, (0.06, 0.035, 0.035), Material.SKIN, looks.skin),
        ]
    parts += _trunk(hip, shoulder, scale, looks)
    parts += _head((0.24, 0.0, 1.63 * scale), scale, looks)
    return merge(parts).grounded()


def _leg(
    hip: tuple[float, float, float], swing: float, bend: float, scale: float, looks: Looks
) -> list[Mesh]:
    start = np.array(hip)
    knee = start + 0.44 * scale * np.array([np.sin(swing), 0, -np.cos(swing)])
    ankle = knee + 0.42 * scale * np.array([np.sin(swing - bend), 0, -np.cos(swing - bend)])
    return _bent_leg(start, knee, ankle, looks)


def _bent_leg(start: np.ndarray, knee: np.ndarray, ankle: np.ndarray, looks: Looks) -> list[Mesh]:
    girth = looks.girth
    heel, toe = ankle + np.array([-0.05, 0, -0.03]), ankle + np.array([0.14, 0, -0.04])
    shin, shin_color = (
        (Material.SKIN, looks.skin) if looks.skirt else (Material.CLOTH, looks.trousers)
    )
    return [
        limb(start, knee, (0.085 * girth, 0.06 * girth), Material.CLOTH, looks.trousers),
        limb(knee, ankle, (0.058 * girth, 0.042 * girth), shin, shin_color),
        limb(heel, toe, (0.045, 0.04), Material.PLASTIC, looks.shoes),
    ]


def _arm(
    shoulder: tuple[float, float, float], swing: float, bend: float, scale: float, looks: Looks
) -> list[Mesh]:
    start, girth = np.array(shoulder), looks.girth
    elbow = start + 0.29 * scale * np.array(
        [np.sin(swing), 0.05 * np.sign(start[1]), -np.cos(swing)]
    )
    forward = swing + bend
    hand = elbow + 0.26 * scale * np.array([np.sin(forward), 0, -np.cos(forward)])
    return [
        limb(start, elbow, (0.06 * girth, 0.047 * girth), Material.CLOTH, looks.top),
        limb(elbow, hand, (0.045 * girth, 0.035 * girth), Material.CLOTH, looks.top),
        ellipsoid(hand, (0.045, 0.03, 0.06), Material.SKIN, looks.skin),
    ]


def _trunk(
    hip: np.ndarray | tuple[float, float, float],
    shoulder: np.ndarray | tuple[float, float, float],
    scale: float,
    looks: Looks,
) -> list[Mesh]:
    low, high = np.array(hip, float), np.array(shoulder, float)
    wide, girth = 0.09 * scale, looks.girth
    parts = []
    for side in (-1, 1):
        offset = np.array([0, side * wide, 0])
        parts.append(
            limb(low + offset * 0.8, high + offset * 1.15 - (0, 0, 0.03),
                 (0.105 * girth, 0.115 * girth), Material.CLOTH, looks.top)
        )  # fmt: skip
    chest = 0.45 * low + 0.55 * high
    parts.append(
        ellipsoid(chest, (0.12 * girth, 0.18 * girth, 0.3 * scale), Material.CLOTH, looks.top)
    )
    if looks.backpack:
        back = chest + np.array([-0.17 * girth - 0.03, 0, 0.08])
        parts.append(ellipsoid(back, (0.13, 0.16, 0.23), Material.CLOTH, looks.shoes))
    return parts


def _head(center: tuple[float, float, float], scale: float, looks: Looks) -> list[Mesh]:
    x, y, z = center
    return [
        limb((x - 0.02, y, z - 0.2 * scale), (x - 0.01, y, z - 0.05), (0.055, 0.05),
             Material.SKIN, looks.skin),
        ellipsoid(center, (0.095, 0.075, 0.115 * scale), Material.SKIN, looks.skin),
        ellipsoid((x - 0.022, y, z + 0.028), (0.1, 0.085, 0.105 * scale),
                  Material.CLOTH, looks.hair),
    ]  # fmt: skip


def _joint(start: np.ndarray, end: np.ndarray, first: float, second: float) -> np.ndarray:
    """Where a knee is, in front of the line from hip to ankle, in the plane of x and z."""
    line = end - start
    distance = min(float(np.linalg.norm(line)), 0.999 * (first + second))
    along = (first**2 - second**2 + distance**2) / (2 * distance)
    out = np.sqrt(max(first**2 - along**2, 0.0))
    direction = line / np.linalg.norm(line)
    forward = np.cross((0.0, 1.0, 0.0), direction)
    forward *= np.sign(forward[0]) / np.linalg.norm(forward)
    return start + along * direction + out * forward


def _bicycle(
    seat: tuple[float, float, float],
    bar: tuple[float, float, float],
    crank: np.ndarray,
    color: Color,
) -> list[Mesh]:
    rear, front = (-0.5, 0.0, 0.34), (0.56, 0.0, 0.34)
    head = (bar[0] - 0.06, 0.0, bar[2] - 0.12)
    tubes: list[tuple[Point, Point]] = [
        (crank, seat), (crank, head), (seat, (head[0], 0, head[2] - 0.05)), (rear, crank),
        (rear, seat), (front, head), (head, bar),
        ((bar[0], -0.27, bar[2]), (bar[0], 0.27, bar[2])),
    ]  # fmt: skip
    return [
        *(rod(start, end, (0.018, 0.018), Material.METAL, color, 6) for start, end in tubes),
        *(_tyre(center) for center in (rear, front)),
        ellipsoid((seat[0], 0, seat[2] + 0.01), (0.13, 0.07, 0.035), Material.PLASTIC, _BLACK),
        ellipsoid((-0.62, 0, 0.62), (0.02, 0.03, 0.03), Material.REFLECTOR, (0.35, 0.01, 0.01)),
    ]


def _tyre(center: tuple[float, float, float]) -> Mesh:
    ring = trimesh.creation.torus(0.32, 0.02, major_sections=20, minor_sections=5)
    upright = np.asarray(ring.triangles)[..., [0, 2, 1]] + center
    return smooth(upright, Material.RUBBER, _BLACK)
