"""AB3DMOT, to compare with: a tracker as its authors published it, written anew from the paper.

Weng et al., 3D Multi-Object Tracking: A Baseline and New Evaluation Metrics, IROS 2020; numbers of
github.com/xinshuoweng/AB3DMOT at 61f3bd7 for cars on KITTI with PointRCNN: constant velocity by
frame, Hungarian assignment on GIoU in space of at least -0.2, three hits until a track counts
(not in the first three frames), two frames without a hit until it ends, and the places of tracks
moved by the ego car's motion, if there is any.
"""

from collections.abc import Sequence

import numpy as np
import shapely
from scipy.optimize import linear_sum_assignment

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.points import transform
from kd3d_core.geometry.rectangles import intersection_area
from kd3d_core.tracking import Tracks, kalman

STEP = np.eye(10)
STEP[:3, 7:] = np.eye(3)
PROCESS_NOISE = np.diag([1.0] * 7 + [0.01] * 3)
BOX_NOISE = np.eye(7)
START = np.diag([10.0] * 7 + [10_000.0] * 3)
MIN_HITS, MAX_MISSES = 3, 2


class Ab3dmot:
    """Follows the boxes of one frame after the other; classes apart.

    Args:
        least: GIoU from which a detection may belong to a track; with `with_hull` off, IoU.
        ego_motion: whether poses are used.
    """

    def __init__(self, ego_motion: bool, least: float = -0.2, with_hull: bool = True) -> None:
        self._ego_motion, self._least, self._with_hull = ego_motion, least, with_hull
        self._frames = 0
        self._next = 1
        self._pose: np.ndarray | None = None
        self._mean, self._covariance = np.zeros((0, 10)), np.zeros((0, 10, 10))
        self._ids = self._hits = self._misses = np.zeros(0, np.int64)
        self._names, self._scores = np.zeros(0, object), np.zeros(0)

    def step(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        names: Sequence[str],
        stamp_ns: int,
        world_from_detector: np.ndarray | None = None,
    ) -> Tracks:
        """As `kd3d_core.tracking.Tracker.step`."""
        boxes, classes = np.asarray(boxes, np.float64).reshape(-1, 7), np.array([*names, 0], object)
        classes = classes[:-1]
        self._frames += 1
        self._predict(world_from_detector)
        track, detection = self._match(boxes, classes)
        self._misses = self._misses + 1
        self._misses[track] = 0
        self._hits[track] += 1
        self._scores[track] = scores[detection]
        self._update(track, boxes[detection])
        new = np.setdiff1d(np.arange(len(boxes)), detection)
        self._begin(boxes[new], scores[new], classes[new])
        found = np.concatenate([np.full(len(self._ids) - len(new), -1), new])
        found[track] = detection
        shown = (self._misses < MAX_MISSES) & (
            (self._hits >= MIN_HITS) | (self._frames <= MIN_HITS)
        )
        tracks = self._tracks(shown, found, stamp_ns)
        self._keep(self._misses < MAX_MISSES)
        return tracks

    def _predict(self, pose: np.ndarray | None) -> None:
        self._mean = self._mean @ STEP.T
        self._covariance = STEP @ self._covariance @ STEP.T + PROCESS_NOISE
        if self._ego_motion and pose is not None:
            if self._pose is not None:
                now_from_before = np.linalg.inv(pose) @ self._pose
                self._mean[:, :3] = transform(self._mean[:, :3], now_from_before)
            self._pose = pose

    def _match(self, boxes: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affinity = box_affinity(self._mean[:, :7], boxes, self._with_hull)
        affinity[self._names[:, None] != classes[None]] = -9
        track, detection = linear_sum_assignment(-affinity)
        is_pair = affinity[track, detection] >= self._least
        return track[is_pair], detection[is_pair]

    def _update(self, track: np.ndarray, boxes: np.ndarray) -> None:
        turn = box_geometry.wrap_angle(boxes[:, 6] - self._mean[track, 6])
        self._mean[track, 6] += np.pi * (np.abs(turn) > np.pi / 2)  # the track turns, at once
        self._mean[track], self._covariance[track] = kalman.update(
            self._mean[track],
            self._covariance[track],
            boxes,
            np.tile(BOX_NOISE, (len(boxes), 1, 1)),
        )

    def _begin(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> None:
        count = len(boxes)
        mean = np.concatenate([boxes, np.zeros((count, 3))], 1)
        self._mean = np.concatenate([self._mean, mean])
        self._covariance = np.concatenate([self._covariance, np.tile(START, (count, 1, 1))])
        self._ids = np.concatenate([self._ids, self._next + np.arange(count)])
        self._hits = np.concatenate([self._hits, np.ones(count, np.int64)])
        self._misses = np.concatenate([self._misses, np.zeros(count, np.int64)])
        self._names = np.concatenate([self._names, classes])
        self._scores = np.concatenate([self._scores, scores])
        self._next += count

    def _keep(self, mask: np.ndarray) -> None:
        for name in ("mean", "covariance", "ids", "hits", "misses", "names", "scores"):
            setattr(self, f"_{name}", getattr(self, f"_{name}")[mask])

    def _tracks(self, shown: np.ndarray, found: np.ndarray, stamp_ns: int) -> Tracks:
        return Tracks(
            stamp_ns,
            self._ids[shown],
            self._mean[shown, :7].astype(np.float32),
            self._mean[shown, 7:].astype(np.float32),
            self._ego_motion,
            tuple(self._names[shown].tolist()),
            self._scores[shown],
            self._misses[shown].astype(np.float64),
            found[shown],
            np.zeros((int(shown.sum()), 0, 3), np.float32),
        )


def box_affinity(boxes: np.ndarray, others: np.ndarray, with_hull: bool) -> np.ndarray:
    """GIoU in space `(N, M)` (Rezatofighi et al., CVPR 2019), or IoU without the hull's part."""
    one, other = boxes[:, None], others[None]
    area = intersection_area(box_geometry.footprints(one), box_geometry.footprints(other))
    top = np.minimum(one[..., 2] + one[..., 5], other[..., 2] + other[..., 5])
    inside = area * np.maximum(top - np.maximum(one[..., 2], other[..., 2]), 0)
    union = one[..., 3:6].prod(-1) + other[..., 3:6].prod(-1) - inside
    if not with_hull or not inside.size:
        return inside / union
    corners, other_corners = (box_geometry.corners(each)[:, :4, :2] for each in (boxes, others))
    shape = len(boxes), len(others), 4, 2
    both = np.concatenate(
        [np.broadcast_to(corners[:, None], shape), np.broadcast_to(other_corners[None], shape)], 2
    )
    hulls = shapely.area(shapely.convex_hull(shapely.multipoints(both)))
    high = np.maximum(one[..., 2] + one[..., 5], other[..., 2] + other[..., 5])
    whole = hulls * (high - np.minimum(one[..., 2], other[..., 2]))
    return inside / union - (whole - union) / whole
