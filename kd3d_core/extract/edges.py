"""Whether the edges that a LiDAR sees fall onto those of the image: a check of extrinsics.

Where a point's neighbour is much farther away, an object ends, and an image has an edge there, most
of the time. How strong the image's gradients are at such points, compared with their surroundings,
is a number that gets smaller when the extrinsics are turned by a degree. (As in J. Levinson, S.
Thrun: Automatic online calibration of cameras and lasers, RSS 2013.)
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from kd3d_core.extract.summary import Sample
from kd3d_core.geometry.camera import PinholeCamera

TURN_DEG = 1.0
"""By how much extrinsics are turned to see whether they fit better then."""
TURNS = ("+x", "-x", "+y", "-y", "+z", "-z")
"""About the axes of the camera: x right, y down, z forward."""

# Directions from the LiDAR are sorted into cells of this width and height; neighbours are looked
# for in the next two.
_CELL_DEG = (0.2, 0.4)
_REACH = 2
# What lies nearer is the own vehicle, what lies farther has too few points.
_RANGE_M = (2.0, 60.0)
# A neighbour is farther by so much where an object ends; roads and walls seen at an angle aren't.
_SHARE, _JUMP_M = 0.1, 0.5
_FEWEST_EDGES = 50
# How far from an edge its gradients still count, and what is its surroundings.
_NEAR_DEG, _AROUND_DEG = 0.12, 0.72
_STRIDE = 7  # of pixels that tell how strong gradients are
# From here on it isn't chance that a turn fits better: KITTI's frames, whose calibration is good,
# are worse by 5 to 15 % in the median when they are turned, and better by 6 to 15 % when they are
# turned back.
_CLEARLY = 0.03


@dataclass(frozen=True)
class TurnScores:
    """How well the edges of LiDAR and image agree, as calibrated and turned by a degree.

    Attributes:
        frames: that have enough edges.
        score: median over them; 1 is chance.
        changes: by turn, median over frames of the relative change of the score.
        best_turn: the one that improves it most, if it does so clearly; else empty.
    """

    frames: int
    score: float
    changes: dict[str, float]
    best_turn: str


def sample_scores(sample: Sample) -> list[float] | None:
    """Scores of a frame as calibrated, then in each of the `TURNS`; None without enough edges."""
    if sample.points is None:
        return None
    edges = _lidar_edges(sample.points, sample.camera)
    if sum(map(len, edges)) < _FEWEST_EDGES:
        return None
    maps = _contrast_maps(sample.image, sample.camera.focal_px)
    cameras = [sample.camera, *(turned(sample.camera, turn) for turn in TURNS)]
    scores = [_score(maps, edges, each) for each in cameras]
    return scores if np.isfinite(scores).all() and scores[0] > 0 else None


def compare_turns(scores: Iterable[list[float] | None]) -> TurnScores | None:
    """What the scores of several frames say; None where no frame has enough edges."""
    rows = [row for row in scores if row is not None]
    if not rows:
        return None
    found = np.array(rows)
    changes = np.median(found[:, 1:] / found[:, :1] - 1, axis=0)
    best = TURNS[int(changes.argmax())] if changes.max() > _CLEARLY else ""
    by_turn = dict(zip(TURNS, changes.tolist(), strict=True))
    return TurnScores(len(rows), float(np.median(found[:, 0])), by_turn, best)


def turned(camera: PinholeCamera, turn: str, degrees: float = TURN_DEG) -> PinholeCamera:
    """The camera, turned about one of its own axes, such as `+x`, in the LiDAR's frame."""
    rotation = np.eye(4)
    vector = np.eye(3)["xyz".index(turn[1])] * np.radians(degrees) * (-1 if turn[0] == "-" else 1)
    rotation[:3, :3] = cv2.Rodrigues(vector)[0]
    return replace(camera, lidar_from_camera=camera.lidar_from_camera @ rotation)


def _lidar_edges(points: np.ndarray, camera: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
    """Where objects end sideways, and upwards or downwards: `(N, 3)` and `(M, 3)`.

    An edge lies between the last point on an object and the first beside it, at the object's range.
    """
    margin = round(np.radians(2 * TURN_DEG) * camera.focal_px)
    wider = camera.cropped(-margin, -margin, camera.width + 2 * margin, camera.height + 2 * margin)
    xyz = points[:, :3].astype(np.float64)
    ranges = np.linalg.norm(xyz, axis=1)
    kept = (ranges > _RANGE_M[0]) & (ranges < _RANGE_M[1]) & wider.sees(xyz)
    ranges = ranges[kept]
    directions = xyz[kept] / ranges[:, None]
    nearest = _nearest_by_cell(directions, ranges)
    edges = []
    for axis in (1, 0):
        found = [np.zeros((0, 3))]
        for side in (1, -1):
            beside = np.full_like(nearest, -1)
            for step in range(_REACH, 0, -1):
                shifted = np.roll(nearest, side * step, axis)
                beside = np.where(shifted >= 0, shifted, beside)
            pairs = (nearest >= 0) & (beside >= 0)
            here, there = nearest[pairs], beside[pairs]
            jumps = ranges[there] - ranges[here] > np.maximum(_JUMP_M, _SHARE * ranges[here])
            here, there = here[jumps], there[jumps]
            between = directions[here] + directions[there]
            between *= (ranges[here] / np.linalg.norm(between, axis=1))[:, None]
            found.append(between)
        edges.append(np.concatenate(found))
    return edges[0], edges[1]


def _nearest_by_cell(directions: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Index of the nearest point in each cell of elevation (rows) and azimuth; -1 without any."""
    if not len(ranges):
        return np.full((1, 1), -1)
    forward = np.arctan2(*directions.mean(0)[[1, 0]])  # so that no border runs through the view
    azimuth = np.arctan2(directions[:, 1], directions[:, 0]) - forward
    azimuth = (azimuth + np.pi) % (2 * np.pi)
    angles = np.degrees(np.stack([azimuth, np.arcsin(directions[:, 2])], -1))
    # A margin of empty cells, so that neighbours over the border don't count.
    cells = np.floor((angles - angles.min(0)) / _CELL_DEG).astype(np.int64)
    columns, rows = cells.max(0) + 1 + _REACH
    nearest = np.full((rows, columns), -1)
    order = np.argsort(-ranges, kind="stable")
    nearest[cells[order, 1], cells[order, 0]] = order
    return nearest


def _contrast_maps(image: np.ndarray, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Gradients along x and along y near each pixel, compared with those around: 1 on average."""
    near, around = (np.radians(each) * focal_px for each in (_NEAR_DEG, _AROUND_DEG))
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1)
    maps = []
    for order in ((1, 0), (0, 1)):
        gradient = np.abs(cv2.Sobel(grey, cv2.CV_32F, *order))
        some = gradient.reshape(-1)[::_STRIDE]
        gradient = np.minimum(gradient, np.percentile(some, 95))
        sharp = cv2.GaussianBlur(gradient, (0, 0), near)
        blurred = cv2.GaussianBlur(gradient, (0, 0), around)
        maps.append(sharp / (blurred + 1e-3 * blurred.mean() + 1e-6))
    return maps[0], maps[1]


def _score(
    maps: tuple[np.ndarray, np.ndarray],
    edges: tuple[np.ndarray, np.ndarray],
    camera: PinholeCamera,
) -> float:
    """Mean contrast at the edges; nan if none is in the image."""
    values = []
    for contrast, points in zip(maps, edges, strict=True):
        pixels, _ = camera.project(points[camera.sees(points)])
        columns, rows = np.rint(pixels).astype(np.int64).T
        values.append(contrast[rows.clip(0, camera.height - 1), columns.clip(0, camera.width - 1)])
    found = np.concatenate(values)
    return float(found.mean()) if len(found) else float("nan")
