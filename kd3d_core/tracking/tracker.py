"""Objects followed over frames: predict, match, update, begin and end.

Design of AB3DMOT (Weng et al., 3D Multi-Object Tracking: A Baseline and New Evaluation Metrics,
IROS 2020), with time in place of frames, a fixed frame where poses are known, and the Mahalanobis
distance over ground in place of overlap, which a box that is metres off in depth hasn't got.

Half a turn is what detectors most often get wrong about a heading. So a detection that faces
against its track counts as if it didn't, but also as a vote; when most votes are against the
track's heading, it is the track that turns.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from kd3d_core.errors import Once
from kd3d_core.geometry.boxes import moved, wrap_angle
from kd3d_core.geometry.points import transform
from kd3d_core.tracking import kalman
from kd3d_core.tracking.config import TrackerConfig
from kd3d_core.tracking.ego import EgoMotion
from kd3d_core.tracking.matching import match
from kd3d_core.tracking.objects import Objects
from kd3d_core.tracking.tracks import Tracks

_log = logging.getLogger(__name__)

_MOST_VOTES = 5
_TRAIL_STEP_NS = 90_000_000  # so that frames at 10 Hz, which jitter, all leave a point
_GROUND = slice(0, 2)


class Tracker:
    """Gives objects ids and velocities, frame by frame; not to be shared between threads.

    >>> tracker = Tracker(say=lambda text: None)
    >>> for tenth in range(5):
    ...     box = np.array([[20.0 - tenth, 0, -1.7, 4, 1.6, 1.5, np.pi]])
    ...     tracks = tracker.step(box, np.array([0.9]), ["Car"], tenth * 100_000_000)
    >>> tracks.ids.tolist(), tracks.velocities.round(0).tolist()
    ([1], [[-10.0, 0.0, 0.0]])
    """

    def __init__(
        self, config: TrackerConfig | None = None, say: Callable[[str], object] = _log.warning
    ) -> None:
        """
        Args:
            say: is told what is odd about stamps and poses, each once.
        """
        self._config = TrackerConfig() if config is None else config
        self._say = Once(say)
        self._next = 1
        self._ego = EgoMotion(self._config, self._say)
        self.reset()

    def reset(self) -> None:
        """Forget all objects. Ids go on from where they are."""
        self._objects = Objects.none(self._config.trail_points)
        self._ego.reset()
        self._stamp_ns: int | None = None
        self._start_ns = 0
        self._trail_ns: int | None = None

    def step(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        names: Sequence[str],
        stamp_ns: int,
        world_from_detector: np.ndarray | None = None,
    ) -> Tracks:
        """Take the boxes of the next frame; the tracks that are confirmed now.

        Args:
            boxes: `(M, 7)` in the detector's frame, as in `kd3d_core.geometry.boxes`; all finite.
            scores: `(M,)`.
            names: `(M,)` classes; a track never changes its own.
            stamp_ns: when it was. Before the last frame's, or long after it, tracks begin anew.
            world_from_detector: 4x4, where the detector's frame was in one that stands still, best
                one that never jumps (`odom` in REP 105). None if it isn't known.

        Raises:
            CalibrationError: the pose isn't a rigid transform.
        """
        scores = np.asarray(scores, np.float64).reshape(-1)
        classes = np.array([*names, None], object)[:-1]  # so that none at all have this type, too
        self._check_time(stamp_ns)
        pose = self._ego.step(stamp_ns, world_from_detector)
        if pose is None:
            self.reset()
            pose = self._ego.step(stamp_ns, world_from_detector)
            assert pose is not None, "a first frame is joined to itself"
        self._predict(stamp_ns)
        placed = moved(boxes, pose)
        noise = kalman.box_noise(placed, pose[:3, 3], self._config)
        self._update(placed, noise, classes, scores, stamp_ns)
        self._confirm()
        self._leave_trail(stamp_ns)
        return self._tracks(pose, stamp_ns)

    def _check_time(self, stamp_ns: int) -> None:
        before_ns = self._stamp_ns
        if before_ns is not None:
            if stamp_ns < before_ns:
                self._say("time jumps back: tracks begin anew", "back")
                self.reset()
            elif stamp_ns == before_ns:
                self._say(
                    "frames have the same stamp: what moves between them isn't noticed", "same"
                )
            elif stamp_ns - before_ns > self._config.max_gap_s * 1e9:
                pause_s = (stamp_ns - before_ns) / 1e9
                self._say(f"there is no frame for {pause_s:.3g} s: tracks begin anew", "gap")
                self.reset()

    def _predict(self, stamp_ns: int) -> None:
        objects = self._objects
        if self._stamp_ns is None:
            self._stamp_ns = self._start_ns = stamp_ns
        dt_s = (stamp_ns - self._stamp_ns) / 1e9
        objects.mean, objects.covariance = kalman.predict(
            objects.mean, objects.covariance, dt_s, self._config
        )
        self._stamp_ns = stamp_ns

    def _update(
        self,
        boxes: np.ndarray,
        noise: np.ndarray,
        classes: np.ndarray,
        scores: np.ndarray,
        stamp_ns: int,
    ) -> None:
        """Give the boxes, in the tracking frame, to objects, or make new ones of them."""
        objects = self._objects
        track, detection = match(
            objects.mean[:, _GROUND],
            objects.covariance[:, _GROUND, _GROUND],
            boxes[:, _GROUND],
            noise[:, _GROUND, _GROUND],
            objects.names[:, None] == classes[None],
            self._config.gate,
        )
        objects.misses += 1
        objects.misses[track] = 0
        objects.hits[track] += 1
        objects.last_ns[track] = stamp_ns
        objects.scores[track] = scores[detection]
        objects.detection[:] = -1
        objects.detection[track] = detection
        facing = self._facing_along(track, boxes[detection])
        objects.mean[track], objects.covariance[track] = kalman.update(
            objects.mean[track], objects.covariance[track], facing, noise[detection]
        )
        objects.keep(~self._is_over(stamp_ns))
        new = np.setdiff1d(np.arange(len(boxes)), detection)
        config = self._config
        speed = config.start_speed if self._ego.has_poses else config.start_speed_relative
        mean, covariance = kalman.start(boxes[new], noise[new], speed)
        columns = (mean, covariance, classes[new], scores[new], new)
        objects.append(Objects.of(*columns, stamp_ns, config.trail_points))

    def _facing_along(self, track: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The boxes of some tracks, half a turn on where they face against their tracks."""
        objects = self._objects
        turn = boxes[:, kalman.YAW] - objects.mean[track, kalman.YAW]
        is_against = np.abs(wrap_angle(turn)) > np.pi / 2
        votes = objects.votes[track] + np.where(is_against, -1, 1)
        is_outvoted = votes < 0
        objects.votes[track] = np.where(is_outvoted, 1, np.minimum(votes, _MOST_VOTES))
        objects.mean[track, kalman.YAW] += np.pi * is_outvoted
        boxes[:, kalman.YAW] += np.pi * (is_against & ~is_outvoted)
        return boxes

    def _is_over(self, stamp_ns: int) -> np.ndarray:
        """`(N,)` whether an object has been missed for too long."""
        config, objects = self._config, self._objects
        limit_s = np.where(objects.number > 0, config.forget_s, config.forget_new_s)
        is_late = stamp_ns - objects.last_ns > limit_s * 1e9
        over: np.ndarray = is_late & (objects.misses >= config.forget_misses)
        return over

    def _confirm(self) -> None:
        config, objects = self._config, self._objects
        is_confirmed = (objects.number == 0) & (objects.hits >= config.confirm_hits)
        is_confirmed &= objects.last_ns - objects.first_ns >= config.confirm_s * 1e9
        is_confirmed |= (objects.number == 0) & (objects.first_ns == self._start_ns)
        count = int(is_confirmed.sum())
        objects.number[is_confirmed] = np.arange(self._next, self._next + count)
        self._next += count

    def _leave_trail(self, stamp_ns: int) -> None:
        if self._trail_ns is None or stamp_ns - self._trail_ns >= _TRAIL_STEP_NS:
            self._trail_ns = stamp_ns
            trail = np.roll(self._objects.trail, 1, 1)
            trail[:, 0] = self._objects.mean[:, kalman.PLACE]
            self._objects.trail = trail

    def _tracks(self, pose: np.ndarray, stamp_ns: int) -> Tracks:
        """The confirmed ones, seen from the detector."""
        objects = self._objects
        is_told = stamp_ns - objects.last_ns <= self._config.coast_s * 1e9
        chosen = np.flatnonzero((objects.number > 0) & is_told)
        mean, trail = objects.mean[chosen], objects.trail[chosen]
        detector_from_tracking = np.linalg.inv(pose)
        places = transform(trail.reshape(-1, 3), detector_from_tracking)
        return Tracks(
            stamp_ns,
            objects.number[chosen],
            moved(mean[:, kalman.BOX], detector_from_tracking).astype(np.float32),
            (mean[:, kalman.VELOCITY] @ pose[:3, :3]).astype(np.float32),
            self._ego.has_poses,
            tuple(objects.names[chosen].tolist()),
            objects.scores[chosen],
            (stamp_ns - objects.last_ns[chosen]) / 1e9,
            objects.detection[chosen],
            places.reshape(trail.shape).astype(np.float32),
        )
