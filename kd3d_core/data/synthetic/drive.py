"""A drive through a street, and the world around the ego car at one of its moments."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.data.synthetic.lighting import Light, draw_light
from kd3d_core.data.synthetic.mesh import Mesh, dot, merge
from kd3d_core.data.synthetic.roadside import build_static
from kd3d_core.data.synthetic.street import Street, draw_street
from kd3d_core.data.synthetic.traffic import Actor, draw_traffic
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT

_BEHIND_M, _AHEAD_M = 45.0, 170.0
"""What there is of the street: as far back as shadows fall, as far ahead as anything is seen."""


@dataclass(frozen=True, eq=False)
class Moment:
    """The world at one time, in the LiDAR's frame (x forward, y left, z up).

    Attributes:
        mesh: everything that can be hit.
        owner: `(F,)` int16 index of the object that a face belongs to, -1 for the street.
        types: KITTI's class name of each object.
        boxes: `(K, 7)` float32 tight boxes of the objects, as in `kd3d_core.geometry.boxes`.
        world_from_lidar: 4x4.
        light: sun and sky, in the world.
    """

    mesh: Mesh
    owner: np.ndarray
    types: tuple[str, ...]
    boxes: np.ndarray
    world_from_lidar: np.ndarray
    light: Light


class Drive:
    """A street with its traffic, from which moments are taken.

    Args:
        seed: of everything in it.
        duration_s: how long the drive lasts; 0 for a single moment.
        varied: see `draw_street`.
    """

    def __init__(
        self, seed: np.random.SeedSequence, duration_s: float = 0.0, varied: bool = False
    ) -> None:
        rngs = [np.random.default_rng(child) for child in seed.spawn(4)]
        self._speed = rngs[0].uniform(5.0, 11.0)
        self._offset, self._yaw = rngs[0].normal(0, 0.12), rngs[0].normal(0, 0.012)
        end = _AHEAD_M + self._speed * duration_s
        self.street: Street = draw_street(rngs[1], -_BEHIND_M, end, varied)
        self.actors: list[Actor] = draw_traffic(self.street, rngs[2], self._speed, duration_s)
        self.light = draw_light(rngs[3])
        self._static = build_static(self.street, rngs[1])
        self._middles = self._static.triangles.mean(1)

    def pose(self, time_s: float) -> np.ndarray:
        """4x4 `world_from_lidar` at a time."""
        sway = 0.05 * np.sin(0.5 * time_s)
        s = self._speed * time_s
        x, y, z, heading = self.street.line.place(np.array(s), np.array(self._offset + sway))
        yaw = heading + self._yaw * np.cos(0.5 * time_s)
        cos, sin = np.cos(yaw), np.sin(yaw)
        turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        climb = np.arctan(self.street.line.grade(s))
        cos, sin = np.cos(climb), np.sin(climb)
        pose = np.eye(4)
        pose[:3, :3] = turned @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
        pose[:3, 3] = np.array([x, y, z]) + KITTI_LIDAR_HEIGHT * pose[:3, 2]
        return pose

    def places(self, time_s: float) -> np.ndarray:
        """Where all actors stand in the world at a time, `(A, 3)`, also those that nobody sees."""
        return np.array([self._place(actor, time_s)[:3] for actor in self.actors]).reshape(-1, 3)

    def _place(self, actor: Actor, time_s: float) -> tuple[float, float, float, float]:
        """x, y, z and yaw in the world."""
        x, y, z, heading = self.street.line.place(*actor.place(time_s))
        return float(x), float(y), float(z + actor.z), float(heading) + actor.heading

    def moment(self, time_s: float = 0.0) -> Moment:
        """The world around the ego car at a time."""
        pose = self.pose(time_s)
        forward = dot(self._middles - pose[:3, 3], pose[:3, 0])
        near = (forward > -_BEHIND_M) & (forward < _AHEAD_M)
        static = self._static
        meshes = [
            Mesh(
                static.triangles[near],
                static.normals[near],
                static.material[near],
                static.color[near],
            )
        ]
        owners = [np.full(near.sum(), -1, np.int16)]
        types: list[str] = []
        boxes: list[list[float]] = []
        for actor in self.actors:
            x, y, z, yaw = self._place(actor, time_s)
            ahead = (x - pose[0, 3]) * pose[0, 0] + (y - pose[1, 3]) * pose[1, 0]
            if not -_BEHIND_M < ahead < _AHEAD_M:
                continue
            mesh = actor.shape.mesh(float(actor.travelled(time_s)))
            meshes.append(mesh.placed(x, y, z, yaw))
            owners.append(np.full(len(mesh), len(types), np.int16))
            types.append(actor.type)
            boxes.append([x, y, z, *(mesh.bounds[1] - mesh.bounds[0]), yaw])
        lidar_from_world = np.linalg.inv(pose)
        world = merge(meshes).moved(-pose[:3, 3]).rotated(lidar_from_world[:3, :3])
        return Moment(
            world,
            np.concatenate(owners),
            tuple(types),
            _boxes_in(np.array(boxes).reshape(-1, 7), lidar_from_world),
            pose,
            self.light,
        )


def _boxes_in(boxes: np.ndarray, lidar_from_world: np.ndarray) -> np.ndarray:
    moved = boxes.copy()
    moved[:, :3] = boxes[:, :3] @ lidar_from_world[:3, :3].T + lidar_from_world[:3, 3]
    moved[:, 6] += np.arctan2(lidar_from_world[1, 0], lidar_from_world[0, 0])
    return moved.astype(np.float32)
