"""What the tracker knows of all objects, in columns."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(eq=False)
class Objects:
    """N objects, confirmed or not, in the tracking frame.

    Attributes:
        mean, covariance: `(N, 10)` and `(N, 10, 10)`, see `kalman`.
        number: `(N,)` id; 0 until it is confirmed.
        names: `(N,)` class.
        scores: `(N,)` of the last detection.
        hits: `(N,)` how often it was detected.
        misses: `(N,)` frames since it last was.
        first_ns, last_ns: `(N,)` stamps of the first and the last detection.
        votes: `(N,)` detections that agree with the heading, less those that face the other way.
        detection: `(N,)` which box of this frame it is; -1 if none.
        trail: `(N, K, 3)` earlier places, the latest first; NaN where there are fewer.
    """

    mean: np.ndarray
    covariance: np.ndarray
    number: np.ndarray
    names: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    misses: np.ndarray
    first_ns: np.ndarray
    last_ns: np.ndarray
    votes: np.ndarray
    detection: np.ndarray
    trail: np.ndarray

    @classmethod
    def of(
        cls,
        mean: np.ndarray,
        covariance: np.ndarray,
        names: np.ndarray,
        scores: np.ndarray,
        detection: np.ndarray,
        stamp_ns: int,
        trail_points: int,
    ) -> "Objects":
        """Objects that are seen for the first time."""
        count = len(mean)
        return cls(
            *(mean, covariance, np.zeros(count, np.int64), names, scores),
            *(np.ones(count, np.int64), np.zeros(count, np.int64)),
            *(np.full(count, stamp_ns), np.full(count, stamp_ns), np.ones(count, np.int64)),
            *(detection, np.full((count, trail_points, 3), np.nan)),
        )

    @classmethod
    def none(cls, trail_points: int) -> "Objects":
        """No objects."""
        columns = np.zeros((0, 10)), np.zeros((0, 10, 10)), np.zeros(0, object), np.zeros(0)
        return cls.of(*columns, np.zeros(0, np.int64), 0, trail_points)

    def __len__(self) -> int:
        return len(self.number)

    def keep(self, mask: np.ndarray) -> None:
        """Forget the others."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[mask])

    def append(self, more: "Objects") -> None:
        """Add others behind these."""
        for field in fields(self):
            both = getattr(self, field.name), getattr(more, field.name)
            setattr(self, field.name, np.concatenate(both))
