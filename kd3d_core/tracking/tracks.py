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
