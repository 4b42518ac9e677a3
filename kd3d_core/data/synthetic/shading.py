"""How much light comes back along a ray: sun with shadows, sky, reflections and haze."""

import numpy as np

from kd3d_core.data.synthetic import materials, texture
from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.lighting import ambient, sky_radiance
from kd3d_core.data.synthetic.materials import Material
from kd3d_core.data.synthetic.mesh import cross, dot, rotate
from kd3d_core.data.synthetic.raycast import Hits, RayCaster

_LIFT = 2e-3  # metres that a secondary ray starts off its surface, and again per 10 m of range
_NEARBY_M = 2.2
_PROBES = np.array([(0.0, 0.0), (0.8, 0.6), (-0.9, 0.45), (0.1, -1.0)], np.float32)
"""Where the rays that look for nearby things lean to, in the plane of the surface."""


def radiance(
    moment: Moment,
    caster: RayCaster,
    origin: np.ndarray,
    directions: np.ndarray,
    hits: Hits,
    pixel_rad: float,
) -> tuple[np.ndarray, np.ndarray]:
    """What a camera sees along rays.

    Args:
        moment: the world.
        caster: of its mesh.
        origin: `(3,)` of the rays, in the LiDAR frame.
        directions: `(N, 3)`.
        hits: what they hit.
        pixel_rad: angle between neighbouring rays.

    Returns:
        `(N, 3)` float32 linear RGB, and a mask `(N,)` of where the sun shines.
    """
    length = np.linalg.norm(directions, axis=1).astype(np.float32)
    view = (directions / length[:, None]).astype(np.float32)
    to_world = moment.world_from_lidar[:3, :3]
    result = np.empty((len(view), 3), np.float32)
    lit = np.zeros(len(view), bool)
    sky = hits.face < 0
    result[sky] = sky_radiance(moment.light, rotate(view[sky], to_world))
    solid = np.flatnonzero(~sky)
    if len(solid):
        result[solid], lit[solid] = _surface_radiance(
            moment,
            caster,
            np.asarray(origin, np.float32),
            view[solid],
            hits.take(solid),
            hits.distance[solid] * length[solid],
            pixel_rad,
        )
    return result, lit


def _surface_radiance(
    moment: Moment,
    caster: RayCaster,
    origin: np.ndarray,
    view: np.ndarray,
    hits: Hits,
    distance: np.ndarray,
    pixel_rad: float,
) -> tuple[np.ndarray, np.ndarray]:
    mesh, light = moment.mesh, moment.light
    to_world = moment.world_from_lidar[:3, :3]
    material = mesh.material[hits.face]
    points = origin + view * distance[:, None]
    flat = _towards_viewer(_unit(hits.normal), view)
    normals = _shading_normals(moment, hits, view, material)
    cosine = np.maximum(-(flat * view).sum(1), 0.05)
    albedo = texture.vary(
        material,
        mesh.color[hits.face],
        rotate(points, to_world) + moment.world_from_lidar[:3, 3].astype(np.float32),
        rotate(normals, to_world),
        distance * np.float32(pixel_rad) / cosine,
    )
    start = points + flat * (_LIFT + _LIFT * 0.1 * distance[:, None])
    sun = rotate(light.sun, to_world.T)
    facing, lit = _sun_on(caster, start, normals, flat, sun, material)
    openness = _openness(caster, start, flat)
    shine = light.sun_color * (facing * lit)[:, None]
    color = albedo * (shine + ambient(light, normals) * openness[:, None])
    color += _reflections(moment, view, normals, material, lit, sun)
    veil = np.exp(-distance / light.haze_m)[:, None].astype(np.float32)
    return color * veil + light.horizon * (1 - veil), lit


def _shading_normals(
    moment: Moment, hits: Hits, view: np.ndarray, material: np.ndarray
) -> np.ndarray:
    corner = moment.mesh.normals[hits.face]
    u, v = hits.weights[:, :1], hits.weights[:, 1:]
    normals = _unit(corner[:, 0] * (1 - u - v) + corner[:, 1] * u + corner[:, 2] * v)
    # Leaves are shaded as the crown that they are part of, whichever way they turn.
    return np.where((material == Material.LEAVES)[:, None], normals, _towards_viewer(normals, view))


def _sun_on(
    caster: RayCaster,
    start: np.ndarray,
    normals: np.ndarray,
    flat: np.ndarray,
    sun: np.ndarray,
    material: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine between surface and sun, and whether nothing is in between."""
    facing = dot(normals, sun)
    leafy = material == Material.LEAVES
    facing = np.where(leafy, 0.35 + 0.65 * facing, facing)  # light shines through leaves
    possible = np.flatnonzero((facing > 0) & (leafy | (dot(flat, sun) > 0)))
    lit = np.zeros(len(start), bool)
    toward = np.broadcast_to(sun, (len(possible), 3))
    lit[possible] = ~caster.blocked(start[possible], toward)
    return np.maximum(facing, 0).astype(np.float32), lit


def _openness(caster: RayCaster, start: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Share of the sky's light that nearby things let through, `(N,)`."""
    side = _unit(cross(flat, np.where(np.abs(flat[:, 2:]) < 0.9, (0, 0, 1), (1, 0, 0))))
    other = cross(flat, side)
    free = np.zeros(len(start), np.float32)
    for a, b in _PROBES:
        probe = flat + a * side + b * other
        free += ~caster.blocked(start, _unit(probe) * _NEARBY_M, reach=1.0)
    return 0.25 + 0.75 * free / len(_PROBES)


def _reflections(
    moment: Moment,
    view: np.ndarray,
    normals: np.ndarray,
    material: np.ndarray,
    lit: np.ndarray,
    sun: np.ndarray,
) -> np.ndarray:
    """Sky, surroundings and sun in paint, glass and metal."""
    result = np.zeros_like(view)
    base = materials.table("mirror")[material]
    shiny = np.flatnonzero(base > 0)
    if not len(shiny):
        return result
    light, view, normals = moment.light, view[shiny], normals[shiny]
    along = (view * normals).sum(1, keepdims=True)
    mirrored = view - 2 * along * normals
    base = base[shiny, None]
    share = base + (1 - base) * (1 - np.clip(-along, 0, 1)) ** 5
    world = rotate(mirrored, moment.world_from_lidar[:3, :3])
    # Houses and trees hide the lowest sky; what they send back is a fraction of the light.
    seen_sky = np.clip((world[:, 2:] - 0.08) / 0.25, 0, 1)
    surroundings = 0.18 * (light.horizon + 0.5 * light.sun_color)
    result[shiny] = share * (seen_sky * sky_radiance(light, world) + (1 - seen_sky) * surroundings)
    gloss = materials.table("gloss")[material[shiny]]
    peak = np.clip(dot(mirrored, sun), 0, 1) ** gloss * np.sqrt(gloss) * lit[shiny] * (gloss > 0)
    result[shiny] += light.sun_color * share * peak[:, None]
    return result


def _towards_viewer(normals: np.ndarray, view: np.ndarray) -> np.ndarray:
    away = (normals * view).sum(1, keepdims=True) > 0
    return np.where(away, -normals, normals)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt((vectors * vectors).sum(1, keepdims=True))
    return (vectors / np.maximum(length, 1e-12)).astype(np.float32)
