"""Sequences for `tracking.py`: labels with ids, poses, and detections made of them with noise."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import usable
from kd3d_core.data.synthetic.dataset import RATE_HZ, SynthConfig, frame_rig, sequence_drive
from kd3d_core.data.synthetic.labels import make_labels
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.tracks import track_labels
from kd3d_core.data.track_labels import TrackLabel, read_tracks
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.points import transform


@dataclass(frozen=True)
class Drive:
    """Labels with ids and detector poses of the frames of a drive, at 10 Hz."""

    name: str
    labels: list[list[TrackLabel]]
    cameras: list[PinholeCamera]
    poses: list[np.ndarray]


@dataclass(frozen=True)
class Noise:
    """How detections differ from labels; standard deviations, or shares of all boxes.

    Attributes:
        place_m: across the line of sight, and along it; depth comes on top of the latter.
        depth: along the line of sight, as a share of the distance.
        size_m, yaw: of sizes and headings.
        flipped: share of headings that are half a turn off.
        missed: share of objects without a box.
        false: boxes on nothing, in a frame.
    """

    name: str
    place_m: float
    depth: float
    size_m: float
    yaw: float
    flipped: float
    missed: float
    false: float


LEVELS = (
    Noise("none", 0, 0, 0, 0, 0, 0, 0),
    Noise("as LiDAR", 0.1, 0.0, 0.1, 0.05, 0.02, 0.05, 0.5),
    Noise("between", 0.3, 0.01, 0.2, 0.15, 0.05, 0.15, 1.0),
    Noise("as camera", 0.4, 0.03, 0.3, 0.3, 0.1, 0.3, 2.0),
)


def noisy(
    boxes: np.ndarray, names: Sequence[str], noise: Noise, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Detections of objects `(N, 7)`, in any order: boxes, scores, classes."""
    keep = np.flatnonzero(rng.random(len(boxes)) >= noise.missed)
    found, count = boxes[keep].astype(np.float64), len(keep)
    sight = found[:, :2] / np.maximum(np.linalg.norm(found[:, :2], axis=1, keepdims=True), 1e-6)
    found[:, :2] += noise.depth * rng.normal(size=(count, 1)) * found[:, :2]
    found[:, :2] += noise.place_m * rng.normal(size=(count, 1)) * sight
    found[:, :2] += noise.place_m * rng.normal(size=(count, 1)) * sight[:, ::-1] * (1, -1)
    found[:, 2] += 0.3 * noise.place_m * rng.normal(size=count)
    found[:, 3:6] = np.maximum(found[:, 3:6] + noise.size_m * rng.normal(size=(count, 3)), 0.3)
    found[:, 6] += noise.yaw * rng.normal(size=count) + np.pi * (rng.random(count) < noise.flipped)
    false = rng.poisson(noise.false)
    distance, side = rng.uniform(6, 60, false), rng.uniform(-0.6, 0.6, false)
    nothing = np.column_stack(
        [distance, distance * side, np.full(false, -1.7), np.tile([3.9, 1.6, 1.5], (false, 1)),
         rng.uniform(-np.pi, np.pi, false)]
    )  # fmt: skip
    order = rng.permutation(count + false)
    classes = [names[index] for index in keep] + ["Car"] * false
    scores = np.clip(np.r_[rng.normal(0.7, 0.15, count), rng.normal(0.4, 0.15, false)], 0.05, 1)
    return np.concatenate([found, nothing])[order], scores[order], [classes[i] for i in order]


def objects_of(sequence: Drive, frame: int) -> tuple[np.ndarray, list[str]]:
    """Boxes `(N, 7)` and classes of a frame's labels."""
    labels = usable(label for _, label in sequence.labels[frame])
    pose = sequence.cameras[frame].lidar_from_camera
    return label_boxes(labels, pose), [label.type for label in labels]


def recorded(root: Path) -> Drive:
    """The recorded sequence, with poses that its LiDAR scans tell, not its labels."""
    dataset = KittiDataset(root)
    tracks = read_tracks(next(root.glob("label_02*.txt")))
    frames = [dataset.frame(name) for name in dataset.names_with("image_2")]
    return Drive(
        "recorded",
        [tracks.get(index, []) for index in range(len(frames))],
        [frame.camera((375, 1242)) for frame in frames],
        scan_poses([frame.points()[:, :3].astype(np.float64) for frame in frames]),
    )


def rendered(seed: int, frames: int) -> Drive:
    """A drive of `kd3d-synth --sequence` without its pictures."""
    config = SynthConfig(frames, seed, sequence=True)
    drive = sequence_drive(config)
    labels, cameras, poses = [], [], []
    for index in range(frames):
        camera = frame_rig(config, index).rectified_camera
        moment = drive.moment(index / RATE_HZ)
        seen = make_labels(moment, RayCaster(moment.mesh.triangles), camera)
        labels.append(track_labels(drive, index / RATE_HZ, seen, camera))
        cameras.append(camera)
        poses.append(moment.world_from_lidar)
    return Drive(f"rendered {seed}", labels, cameras, poses)


def scan_poses(scans: list[np.ndarray]) -> list[np.ndarray]:
    """4x4 `first_from_scan` of each scan, by matching it with the one before (point-to-plane ICP).

    Low, S. Chen and G. Medioni: Object modelling by registration of multiple range images, 1992;
    what is worst matched, such as what moves, is left out.
    """
    poses, step = [np.eye(4)], np.eye(4)
    for before, scan in itertools.pairwise(scans):
        tree, normals = cKDTree(before), _normals(before)
        moving = scan[::2]
        for _ in range(25):
            placed = transform(moving, step)
            away, nearest = tree.query(placed, distance_upper_bound=2.0)
            near = np.flatnonzero(np.isfinite(away))
            near = near[away[near] <= np.quantile(away[near], 0.8)]
            normal, point = normals[nearest[near]], placed[near]
            residual = ((before[nearest[near]] - point) * normal).sum(1)
            jacobian = np.hstack([np.cross(point, normal), normal])
            change = np.linalg.lstsq(jacobian, residual, rcond=None)[0]
            update = np.eye(4)
            update[:3, :3] = Rotation.from_rotvec(change[:3]).as_matrix()
            update[:3, 3] = change[3:]
            step = update @ step
            if np.abs(change).max() < 1e-5:
                break
        poses.append(poses[-1] @ step)
    return poses


def _normals(points: np.ndarray) -> np.ndarray:
    """`(N, 3)` unit normals of the surfaces around points."""
    _, near = cKDTree(points).query(points, 12)
    spread = points[near] - points[near].mean(1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", spread, spread))
    return vectors[..., 0]
