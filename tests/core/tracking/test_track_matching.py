"""Detections go to the tracks that they most likely belong to."""

from itertools import permutations

import numpy as np

from kd3d_core.tracking.matching import match

GATE = 3.0


def spread(count: int, sigma: float) -> np.ndarray:
    return np.tile(sigma**2 * np.eye(2), (count, 1, 1))


def same(count: int, other: int) -> np.ndarray:
    return np.ones((count, other), bool)


def pairs_of(expected, covariance, found, noise, is_class=None):
    expected, found = np.array(expected, float), np.array(found, float)
    is_class = same(len(expected), len(found)) if is_class is None else is_class
    track, detection = match(expected, covariance, found, noise, is_class, GATE)
    return sorted(zip(track.tolist(), detection.tolist(), strict=True))


def test_the_best_pairs_together_beside_all_possibilities():
    rng = np.random.default_rng(0)
    for _ in range(40):
        expected, found = rng.uniform(0, 4, (4, 2)), rng.uniform(0, 4, (4, 2))
        one, noise = spread(4, 0.9), spread(4, 0.5)
        squared = ((found[None] - expected[:, None]) ** 2).sum(-1) / (0.9**2 + 0.5**2)
        cost = np.where(squared <= GATE**2, squared, GATE**2)  # all determinants are equal
        best = min(
            sum(cost[track, detection] for track, detection in enumerate(order))
            for order in permutations(range(4))
        )
        chosen = pairs_of(expected, one, found, noise)
        total = sum(cost[pair] for pair in chosen) + (4 - len(chosen)) * GATE**2
        np.testing.assert_allclose(total, best)
        assert all(squared[pair] <= GATE**2 for pair in chosen)


def test_nothing_is_matched_beyond_the_gate_or_to_another_class():
    one, noise = spread(1, 0.6), spread(1, 0.8)  # 1 m together
    assert pairs_of([[0, 0]], one, [[2.9, 0]], noise) == [(0, 0)]
    assert pairs_of([[0, 0]], one, [[3.1, 0]], noise) == []
    assert pairs_of([[0, 0]], one, [[0, 0]], noise, np.array([[False]])) == []


def test_a_good_pair_is_not_torn_for_two_bad_ones():
    """Detection 0 is on track 0; only the far tracks and detections would gain by a swap."""
    chosen = pairs_of([[0, 0], [-2.8, 0]], spread(2, 0.6), [[0, 0], [2.8, 0]], spread(2, 0.8))
    assert chosen == [(0, 0)]


def test_of_two_tracks_the_surer_one_gets_the_detection():
    covariance = np.concatenate([spread(1, 3.0), spread(1, 0.3)])
    chosen = pairs_of([[0.0, 0], [0.5, 0]], covariance, [[0.2, 0]], spread(1, 0.3))
    assert chosen == [(1, 0)]


def test_errors_along_the_line_of_sight_are_forgiven():
    noise = np.diag([2.0**2, 0.3**2])[None]
    assert pairs_of([[0, 0]], spread(1, 0.1), [[4, 0]], noise) == [(0, 0)]
    assert pairs_of([[0, 0]], spread(1, 0.1), [[0, 4]], noise) == []


def test_no_tracks_or_no_detections():
    nothing = np.zeros((0, 2))
    assert pairs_of(nothing, spread(0, 1), [[0, 0]], spread(1, 1)) == []
    assert pairs_of([[0, 0]], spread(1, 1), nothing, spread(0, 1)) == []
