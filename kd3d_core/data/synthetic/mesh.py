"""Triangle meshes and the few solids that everything in a scene is built from.

Metres throughout; z is up. Shapes with a heading face +x.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import trimesh

from kd3d_core.data.synthetic.materials import Material

Color = tuple[float, float, float]
"""Linear RGB albedo, 0 to 1."""

Point = Sequence[float] | np.ndarray
"""x, y, z in metres."""

_CREASE_COS = 0.75
"""Faces that meet at a sharper angle than its arc cosine (41 degrees) keep their edge."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles, with what a ray wants to know of the one that it hits.

    Attributes:
        triangles: `(F, 3, 3)` float32 corners, metres.
        normals: `(F, 3, 3)` float32 unit normals at the corners; their sign has no meaning.
        material: `(F,)` uint8 of `Material`.
        color: `(F, 3)` float32 linear RGB albedo.
    """

    triangles: np.ndarray
    normals: np.ndarray
    material: np.ndarray
    color: np.ndarray

    def __len__(self) -> int:
        return len(self.triangles)

    @property
    def bounds(self) -> np.ndarray:
        """`(2, 3)` lowest and highest coordinates."""
        return np.stack([self.triangles.min((0, 1)), self.triangles.max((0, 1))])

    def moved(self, offset: Point) -> "Mesh":
        """The mesh shifted by `(3,)` metres."""
        return replace(self, triangles=self.triangles + np.asarray(offset, np.float32))

    def grounded(self) -> "Mesh":
        """The mesh with the bottom centre of its tight box at the origin."""
        low, high = self.bounds
        return self.moved((-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]))

    def placed(self, x: float, y: float, z: float, yaw: float) -> "Mesh":
        """The mesh turned by `yaw` about +z, then shifted."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return self.rotated(rotation).moved((x, y, z))

    def rotated(self, rotation: np.ndarray) -> "Mesh":
        """The mesh turned by a 3x3 rotation."""
        return replace(
            self,
            triangles=rotate(self.triangles, rotation),
            normals=rotate(self.normals, rotation),
        )


def rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """`(..., 3)` vectors times a 3x3 rotation, as float32.

    Written out, because the last bits of a BLAS product depend on the number of threads, and the
    same seed must give the same bytes.
    """
    matrix = np.asarray(rotation, np.float32)
    x, y, z = (np.asarray(vectors, np.float32)[..., axis, None] for axis in range(3))
    return x * matrix[:, 0] + y * matrix[:, 1] + z * matrix[:, 2]


def dot(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """`(...,)` scalar products of `(..., 3)` vectors with a `(3,)` one; see `rotate`."""
    x, y, z = (vectors[..., axis] * direction[axis] for axis in range(3))
    return x + y + z


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several, faces in their order."""
    return Mesh(
        np.concatenate([mesh.triangles for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.material for mesh in meshes]),
        np.concatenate([mesh.color for mesh in meshes]),
    )


def face_normals(triangles: np.ndarray) -> np.ndarray:
    """`(F, 3)` unit normals of `(F, 3, 3)` triangles; zero for degenerate ones."""
    edges = triangles[:, 1:] - triangles[:, :1]
    normals = cross(edges[:, 0], edges[:, 1])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.maximum(length, 1e-12)


def flat(triangles: np.ndarray, material: Material, color: Color) -> Mesh:
    """Mesh of `(F, 3, 3)` triangles with sharp edges."""
    triangles = np.asarray(triangles, np.float32)
    normals = np.repeat(face_normals(triangles)[:, None], 3, 1).astype(np.float32)
    return _painted(triangles, normals, material, color)


def smooth(triangles: np.ndarray, material: Material, color: Color) -> Mesh:
    """Mesh of `(F, 3, 3)` triangles that looks round where they meet at a blunt angle."""
    triangles = np.asarray(triangles, np.float32)
    places = np.round(triangles.reshape(-1, 3), 4) + 0.0  # no -0.0, which would differ from 0.0
    _, corner = np.unique(places, axis=0, return_inverse=True)
    normals = _round_normals(triangles, corner.reshape(-1, 3))
    return _painted(triangles, normals, material, color)


def _round_normals(triangles: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """`(F, 3, 3)` normals: at a corner that triangles share, the mean of theirs by their angles.

    Args:
        triangles: `(F, 3, 3)`.
        corner: `(F, 3)` number of the corner, the same for triangles that share it.
    """
    own = face_normals(triangles)
    forth = np.roll(triangles, -1, 1) - triangles
    back = -np.roll(forth, 1, 1)
    lengths = np.sqrt((forth**2).sum(-1) * (back**2).sum(-1))
    cosine = (forth * back).sum(-1) / np.maximum(lengths, 1e-12)
    weighted = np.arccos(np.clip(cosine, -1, 1))[..., None] * own[:, None]
    flat_corner = corner.reshape(-1)
    total = np.stack(
        [np.bincount(flat_corner, weighted[..., axis].reshape(-1)) for axis in range(3)], -1
    )
    mean = total[corner]
    mean /= np.maximum(np.sqrt((mean**2).sum(-1, keepdims=True)), 1e-12)
    round_here = (mean * own[:, None]).sum(-1, keepdims=True) > _CREASE_COS
    return np.where(round_here, mean, own[:, None]).astype(np.float32)


def _painted(triangles: np.ndarray, normals: np.ndarray, material: Material, color: Color) -> Mesh:
    count = len(triangles)
    colors = np.broadcast_to(np.asarray(color, np.float32), (count, 3)).copy()
    return Mesh(triangles, normals, np.full(count, material, np.uint8), colors)


def quads(corners: np.ndarray, material: Material, color: Color) -> Mesh:
    """Mesh of `(Q, 4, 3)` flat quadrangles, corners in turn."""
    corners = np.asarray(corners, np.float32).reshape(-1, 4, 3)
    return flat(corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3), material, color)


def box(low: Point, high: Point, material: Material, color: Color) -> Mesh:
    """Axis-aligned box between two corners."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return flat(low + _unit_box() * (high - low), material, color)


def ellipsoid(
    center: Point, radii: Point, material: Material, color: Color, detail: int = 2
) -> Mesh:
    """Axis-aligned ellipsoid of 20 * 4**detail faces."""
    centers, sizes, colors = (np.asarray([values]) for values in (center, radii, color))
    return ellipsoids(centers, sizes, colors, material, detail)


def ellipsoids(
    centers: np.ndarray, radii: np.ndarray, colors: np.ndarray, material: Material, detail: int
) -> Mesh:
    """Axis-aligned ellipsoids: `(N, 3)` centres, radii and colours; see `ellipsoid`."""
    sphere = _unit_sphere(detail)
    radii = np.asarray(radii, np.float32)[:, None, None]
    triangles = sphere * radii + np.asarray(centers, np.float32)[:, None, None]
    normals = sphere / radii
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    mesh = _painted(triangles.reshape(-1, 3, 3), normals.reshape(-1, 3, 3), material, (0, 0, 0))
    return replace(mesh, color=np.repeat(np.asarray(colors, np.float32), len(sphere), 0))


def limb(
    start: Point,
    end: Point,
    radii: tuple[float, float],
    material: Material,
    color: Color,
) -> Mesh:
    """Capsule from `start` to `end` whose radius goes from the first of `radii` to the second."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    length = float(np.linalg.norm(end - start))
    ball = _even_sphere()
    upper = ball[..., 2:] > 0
    triangles = ball * np.where(upper, radii[1], radii[0])
    triangles = triangles + upper * np.array([0.0, 0.0, length])
    rotation = _rotation_to((end - start) / max(length, 1e-9))
    turned = rotate(triangles, rotation) + start.astype(np.float32)
    return _painted(turned, rotate(ball, rotation), material, color)


def rod(
    start: Point,
    end: Point,
    radii: tuple[float, float],
    material: Material,
    color: Color,
    sides: int = 10,
) -> Mesh:
    """Round rod with flat ends, `radii` at start and end: poles, trunks, wheels."""
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    length = float(np.linalg.norm(end - start))
    unit, normals = _unit_rod(sides)
    width = np.where(unit[..., 2:] > 0.5, radii[1], radii[0])
    triangles = np.concatenate([unit[..., :2] * width, unit[..., 2:] * length], -1)
    rotation = _rotation_to((end - start) / max(length, 1e-9))
    turned = rotate(triangles, rotation) + start.astype(np.float32)
    return _painted(turned, rotate(normals, rotation), material, color)


def loft(rings: np.ndarray, material: Material, color: Color) -> Mesh:
    """Skin over `(S, K, 3)` closed rings of K points each, its two ends capped.

    Faces come in the order (ring, point, triangle), two triangles each, then the caps: `repaint`
    finds the sides by that.
    """
    rings = np.asarray(rings, np.float32)
    count, points = rings.shape[:2]
    here = np.arange(points)
    after = np.roll(here, -1)
    start = np.arange(count - 1)[:, None] * points
    quad = np.stack([start + here, start + after, start + points + after, start + points + here], 2)
    sides = quad[:, :, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    last = (count - 1) * points
    middles = np.full(points, count * points)
    caps = np.concatenate(
        [
            np.stack([middles, after, here], 1),
            np.stack([middles + 1, last + here, last + after], 1),
        ]
    )
    corner = np.concatenate([sides, caps])
    places = np.concatenate([rings.reshape(-1, 3), rings[0].mean(0)[None], rings[-1].mean(0)[None]])
    triangles = places[corner]
    return _painted(triangles, _round_normals(triangles, corner), material, color)


def repaint(mesh: Mesh, faces: np.ndarray, material: Material, color: Color) -> Mesh:
    """The mesh with other material and color on some faces (mask or indices)."""
    materials, colors = mesh.material.copy(), mesh.color.copy()
    materials[faces] = material
    colors[faces] = color
    return replace(mesh, material=materials, color=colors)


def _rotation_to(direction: np.ndarray) -> np.ndarray:
    """3x3 rotation that takes +z to a unit vector."""
    side = np.cross((0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0), direction)
    side /= np.linalg.norm(side)
    return np.column_stack([side, np.cross(direction, side), direction])


@cache
def _unit_box() -> np.ndarray:
    return _frozen(trimesh.creation.box(bounds=[[0, 0, 0], [1, 1, 1]]).triangles)


@cache
def _unit_sphere(detail: int) -> np.ndarray:
    return _frozen(trimesh.creation.icosphere(subdivisions=detail).triangles)


@cache
def _even_sphere() -> np.ndarray:
    """A unit sphere with no corner on its equator, so that a capsule can be pulled out of it."""
    sphere = trimesh.creation.uv_sphere(count=[6, 10])
    return _frozen(sphere.triangles)


@cache
def _unit_rod(sides: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of a rod from 0 to z = 1, and their normals."""
    segment = [[0, 0, 0], [0, 0, 1]]
    triangles = trimesh.creation.cylinder(radius=1, segment=segment, sections=sides).triangles
    normals = np.repeat(face_normals(triangles)[:, None], 3, 1)
    round_side = np.abs(normals[..., 2:]) < 0.5
    normals = np.where(round_side, triangles * (1.0, 1.0, 0.0), normals)
    return _frozen(triangles), _frozen(normals)


def _frozen(triangles: np.ndarray) -> np.ndarray:
    array = np.array(triangles, np.float32)
    array.setflags(write=False)
    return array


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of `(N, 3)` vectors; many times as fast as numpy's on short arrays."""
    x, y, z = a.T
    u, v, w = b.T
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], 1)


def shade(rng: np.random.Generator, color: Color) -> Color:
    """The colour made lighter or darker, and a little warmer or colder."""
    red, green, blue = np.array(color) * rng.uniform(0.75, 1.25) * rng.uniform(0.95, 1.05, 3)
    return (float(min(red, 0.9)), float(min(green, 0.9)), float(min(blue, 0.9)))
