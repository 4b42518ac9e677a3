"""Which triangle a ray hits first: the one place that knows the ray caster, Embree."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.errors import Kd3dError

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
except ImportError as error:
    raise Kd3dError(
        f"synthetic scenes need embreex, which cannot be imported ({error}): pip install embreex; "
        "it has no wheel for ARM, so render on another machine"
    ) from None

_FAR = 1e30


@dataclass(frozen=True, eq=False)
class Hits:
    """Where N rays hit.

    Attributes:
        distance: `(N,)` float32 in lengths of the direction, inf where nothing is hit.
        face: `(N,)` int32 index of the triangle, -1 where nothing is hit.
        weights: `(N, 2)` float32 weights of the triangle's second and third corner.
        normal: `(N, 3)` float32 normal of the triangle, of any length and sign.
    """

    distance: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    normal: np.ndarray

    def take(self, index: np.ndarray) -> "Hits":
        """The hits of some rays."""
        return Hits(self.distance[index], self.face[index], self.weights[index], self.normal[index])


class RayCaster:
    """Casts rays at `(F, 3, 3)` triangles. Holds Embree's tree over them."""

    def __init__(self, triangles: np.ndarray) -> None:
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(triangles, np.float32))

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """First hits of rays from `(N, 3)` or `(3,)` origins in `(N, 3)` directions."""
        origins, directions = _rays(origins, directions)
        found = self._scene.run(origins, directions, output=1)
        face = found["primID"]
        distance = np.where(face < 0, np.float32(np.inf), found["tfar"])
        return Hits(distance, face, np.stack([found["u"], found["v"]], -1), found["Ng"])

    def blocked(
        self, origins: np.ndarray, directions: np.ndarray, reach: float = _FAR
    ) -> np.ndarray:
        """Mask `(N,)`: whether rays hit anything within `reach` lengths of their direction."""
        origins, directions = _rays(origins, directions)
        reaches = np.full(len(directions), reach, np.float32)
        # Embree answers 0 for a ray that is blocked and -1 for one that isn't.
        return self._scene.run(origins, directions, dists=reaches, query="OCCLUDED") == 0


def _rays(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    directions = np.ascontiguousarray(directions, np.float32)
    origins = np.ascontiguousarray(np.broadcast_to(origins, directions.shape), np.float32)
    return origins, directions
