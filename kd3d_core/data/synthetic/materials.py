"""What things are made of: how a surface looks to the camera and to the LiDAR."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Material(IntEnum):
    """Materials of a mesh's faces."""

    ASPHALT = 0
    MARKING = 1
    SLABS = 2
    CONCRETE = 3
    GRASS = 4
    SOIL = 5
    PLASTER = 6
    BRICK = 7
    WINDOW = 8
    ROOF = 9
    LEAVES = 10
    BARK = 11
    METAL = 12
    CAR_PAINT = 13
    CAR_GLASS = 14
    RUBBER = 15
    PLASTIC = 16
    LAMP = 17
    REFLECTOR = 18
    CLOTH = 19
    SKIN = 20
    WOOD = 21


@dataclass(frozen=True)
class Surface:
    """Optical behaviour of a material.

    Attributes:
        reflectance: share of the LiDAR's near-infrared light that comes back from a white one.
        tint: how much the visible colour changes that share; dyes of cloth hardly do.
        mirror: reflected share of the surroundings at normal incidence (Fresnel's F0).
        gloss: exponent of the sun's highlight; 0 for none.
        solid: share of LiDAR shots that the surface answers at all; glass lets most through.
    """

    reflectance: float
    tint: float = 0.3
    mirror: float = 0.0
    gloss: float = 0.0
    solid: float = 1.0


SURFACES = {
    Material.ASPHALT: Surface(0.25),
    Material.MARKING: Surface(0.75),
    Material.SLABS: Surface(0.40),
    Material.CONCRETE: Surface(0.45),
    Material.GRASS: Surface(0.55, tint=0.0),
    Material.SOIL: Surface(0.30),
    Material.PLASTER: Surface(0.60),
    Material.BRICK: Surface(0.40),
    Material.WINDOW: Surface(0.10, mirror=0.12, gloss=200.0, solid=0.45),
    Material.ROOF: Surface(0.35),
    Material.LEAVES: Surface(0.50, tint=0.0),
    Material.BARK: Surface(0.30),
    Material.METAL: Surface(0.45, mirror=0.06, gloss=30.0),
    Material.CAR_PAINT: Surface(0.50, tint=0.8, mirror=0.05, gloss=150.0),
    Material.CAR_GLASS: Surface(0.08, mirror=0.07, gloss=300.0, solid=0.35),
    Material.RUBBER: Surface(0.08),
    Material.PLASTIC: Surface(0.20, mirror=0.02, gloss=15.0),
    Material.LAMP: Surface(0.70, mirror=0.05, gloss=80.0),
    Material.REFLECTOR: Surface(1.0, tint=0.0),
    Material.CLOTH: Surface(0.45, tint=0.2),
    Material.SKIN: Surface(0.55),
    Material.WOOD: Surface(0.40),
}


def table(attribute: str) -> np.ndarray:
    """`(M,)` float32 of one attribute of `Surface`, indexed by material."""
    return np.array([getattr(SURFACES[material], attribute) for material in Material], np.float32)
