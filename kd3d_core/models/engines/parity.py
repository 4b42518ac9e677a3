"""How far a model in an engine is from itself in torch: their boxes in the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kd3d_core.geometry.boxes import corners

MAX_CORNER_ERROR_M = 0.02
"""What a box's corners may be off."""
MAX_SCORE_ERROR = 0.01
"""What a score may be off."""
_FAR_M = 2.0  # no boxes of the same object


@dataclass(frozen=True)
class Found:
    """Boxes of one image.

    Attributes:
        boxes: `(N, 7)` in the detector frame.
        scores: `(N,)`.
        labels: `(N,)` int64.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Parity:
    """Boxes of two models, each of the first with the nearest of its class of the second.

    Attributes:
        total: boxes that torch found.
        metres: of each pair, how far its corners are from each other at most.
        scores: of each pair, the difference.
        lost: scores of torch's boxes that the engine hasn't.
        new: scores of the engine's boxes that torch hasn't.
        lowest: score from which boxes count; one at the threshold may be found by only one of both.
    """

    total: int
    metres: tuple[float, ...]
    scores: tuple[float, ...]
    lost: tuple[float, ...]
    new: tuple[float, ...]
    lowest: float

    @property
    def equal(self) -> bool:
        """Whether all are within `MAX_CORNER_ERROR_M` and `MAX_SCORE_ERROR`."""
        alone = [score for score in (*self.lost, *self.new) if score >= self.lowest]
        return (
            not alone
            and max(self.metres, default=0) <= MAX_CORNER_ERROR_M
            and max(self.scores, default=0) <= MAX_SCORE_ERROR
        )

    def __str__(self) -> str:
        if not self.metres:
            return (
                f"{self.total} boxes in torch, none of them in the engine, {len(self.new)} others"
            )
        alone = (*self.lost, *self.new)
        highest = f" (score {max(alone):.2f} at most of those in one alone)" if alone else ""
        return (
            f"{len(self.metres)} of {self.total} boxes found again, {len(self.new)} others{highest}"
            f"; corners off by {np.median(self.metres):.2g} m in the median and "
            f"{max(self.metres):.2g} m at most, scores by {np.median(self.scores):.2g} and "
            f"{max(self.scores):.2g}"
        )


def compare(torch: Sequence[Found], engine: Sequence[Found], threshold: float) -> Parity:
    """Pair the boxes of the same images; `threshold` is the lowest score that both give out.

    >>> box = np.array([[10.0, 0, -1, 4, 2, 1.5, 0]])
    >>> one = Found(box, np.array([0.90]), np.array([2]))
    >>> other = Found(box + [0.01, 0, 0, 0, 0, 0, 0], np.array([0.89]), np.array([2]))
    >>> print(compare([one], [other], 0.1))
    1 of 1 boxes found again, 0 others; \
corners off by 0.01 m in the median and 0.01 m at most, scores by 0.01 and 0.01
    """
    metres: list[float] = []
    scores: list[float] = []
    lost: list[float] = []
    new: list[float] = []
    for one, other in zip(torch, engine, strict=True):
        free = np.ones(len(other.boxes), bool)
        for index in np.argsort(-one.scores, kind="stable"):
            offsets = corners(other.boxes) - corners(one.boxes[index : index + 1])
            away = np.linalg.norm(offsets, axis=-1).max(-1, initial=0)
            away[~free | (other.labels != one.labels[index])] = np.inf
            if not len(away) or away.min() > _FAR_M:
                lost.append(float(one.scores[index]))
                continue
            nearest = int(away.argmin())
            free[nearest] = False
            metres.append(float(away[nearest]))
            scores.append(float(abs(other.scores[nearest] - one.scores[index])))
        new += other.scores[free].tolist()
    total = sum(len(one.boxes) for one in torch)
    return Parity(
        total, tuple(metres), tuple(scores), tuple(lost), tuple(new), threshold + MAX_SCORE_ERROR
    )
