"""What is known of the objects after a frame."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Tracks:
    """T objects at the stamp of a frame, in the detector's frame at that time.

    Attributes:
        stamp_ns: of the frame.
        ids: `(T,)` int64, from 1; a tracker uses none twice.
        boxes: `(T, 7)` float32, as in `kd3d_core.geometry.boxes`, filtered.
        velocities: `(T, 3)` float32, metres per second along the detector's axes.
        is_over_ground: whether velocities are those over ground; else relative to the detector.
        names: `(T,)` classes.
        scores: `(T,)` float64, of the last detection of each.
        unseen_s: `(T,)` float64, how long ago that was; 0 in this frame.
        detection: `(T,)` int64, which of the frame's boxes it is; -1 if none.
        trails: `(T, K, 3)` float32, earlier places, the latest first; NaN where there are fewer.
    """

    stamp_ns: int
    ids: np.ndarray
    boxes: np.ndarray
    velocities: np.ndarray
    is_over_ground: bool
    names: tuple[str, ...]
    scores: np.ndarray
    unseen_s: np.ndarray
    detection: np.ndarray
    trails: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def ids_of_detections(self, count: int) -> tuple[str, ...]:
        """The ids of the frame's `count` boxes as text; empty for those without a track."""
        ids = [""] * count
        for number, index in zip(self.ids.tolist(), self.detection.tolist(), strict=True):
            if index >= 0:
                ids[index] = str(number)
        return tuple(ids)

    def velocities_of_detections(self, count: int) -> np.ndarray:
        """The velocities of the frame's `count` boxes, `(count, 3)`; NaN for those without a track.

        >>> tracks = Tracks(
        ...     0, np.array([4]), np.zeros((1, 7)), np.ones((1, 3)), True, ("Car",), np.ones(1),
        ...     np.zeros(1), np.array([1]), np.zeros((1, 0, 3)),
        ... )
        >>> tracks.ids_of_detections(2), tracks.velocities_of_detections(2)[:, 0].tolist()
        (('', '4'), [nan, 1.0])
        """
        velocities = np.full((count, 3), np.nan, np.float32)
        is_seen = self.detection >= 0
        velocities[self.detection[is_seen]] = self.velocities[is_seen]
        return velocities
