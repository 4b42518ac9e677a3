"""Which detection belongs to which track."""

import numpy as np


def match(
    expected: np.ndarray,
    covariance: np.ndarray,
    found: np.ndarray,
    noise: np.ndarray,
    is_class: np.ndarray,
    gate: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of tracks and detections, `(P,)` and `(P,)` indices, the best ones together.

    Cost is the squared Mahalanobis distance over ground plus the logarithm of its covariance's
    determinant, twice the negative logarithm of the likelihood: of two tracks around a detection,
    the one that knows better where it is comes first. What has no partner within the gate costs as
    much as one at the gate.

    >>> one, tight = np.eye(2)[None], 0.01 * np.eye(2)[None]
    >>> expected, found = np.array([[0.0, 0], [1, 0]]), np.array([[0.1, 0], [9, 0]])
    >>> match(expected, one.repeat(2, 0), found, tight.repeat(2, 0), np.ones((2, 2), bool), 3.0)
    (array([0]), array([0]))

    Args:
        expected: `(N, 2)` where tracks should be.
        covariance: `(N, 2, 2)` of that.
        found: `(M, 2)` where detections are.
        noise: `(M, 2, 2)` covariance of that.
        is_class: `(N, M)` whether the two have the same class.
        gate: largest distance, standard deviations.
    """
    from scipy.optimize import linear_sum_assignment  # half a second, which pages need not wait

    x, y = (np.subtract.outer(expected[:, k], found[:, k]) for k in (0, 1))
    xx, xy, yy = (
        np.add.outer(covariance[:, i, j], noise[:, i, j]) for i, j in ((0, 0), (0, 1), (1, 1))
    )
    determinant = xx * yy - xy * xy
    squared = (yy * x * x - 2 * xy * x * y + xx * y * y) / determinant
    possible = is_class & (squared <= gate**2)
    if not possible.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    cost = squared + np.log(determinant)
    unmatched = gate**2 + np.log(determinant[possible].max())
    cost = np.where(possible, np.minimum(cost, unmatched), unmatched)
    track, detection = linear_sum_assignment(cost)
    is_pair = possible[track, detection]
    return track[is_pair], detection[is_pair]
