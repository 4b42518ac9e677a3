"""The devkit's greedy assignment of detections to labels, for many score thresholds at once."""

import numpy as np


def assign(
    label: np.ndarray,
    detection: np.ndarray,
    frame: np.ndarray,
    score: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """The pairs that result when labels, one after the other, take a detection each.

    A label takes the first of its candidates that no earlier label of the frame has taken and
    whose score isn't below the threshold. Frames and thresholds don't affect each other, so all
    of them go at once, and Python loops only over (label of a frame, candidate of that label).

    >>> label = np.array([0, 0, 1])  # label 0 prefers detection 5 to 6, label 1 takes 5 only
    >>> detection, score = np.array([5, 6, 5]), np.array([0.4, 0.9, 0.4])
    >>> chosen = assign(label, detection, np.zeros(3, int), score, np.array([0.0, 0.5]))
    >>> chosen[:, 0].tolist(), chosen[:, 1].tolist()  # from score 0.5 on, 5 is no candidate
    ([True, False, False], [False, True, False])

    Args:
        label: `(P,)` label of each candidate pair, not falling: the pairs of a label are adjacent,
            the preferred one first, and labels are in the order in which they choose.
        detection: `(P,)` detection of each pair.
        frame: `(P,)` frame of each pair, not falling.
        score: `(P,)` score of each pair's detection.
        thresholds: `(T,)` lowest score that counts.

    Returns:
        `(P, T)` bool; for each threshold at most one pair per label and per detection.
    """
    chosen = np.zeros((len(label), len(thresholds)), bool)
    if not len(label):
        return chosen
    labels, label = np.unique(label, return_inverse=True)
    detections, detection = np.unique(detection, return_inverse=True)
    served = np.zeros((len(labels), len(thresholds)), bool)
    taken = np.zeros((len(detections), len(thresholds)), bool)
    candidate = _position(label)
    turn = _position(frame[candidate == 0])[label]
    order = np.lexsort((candidate, turn))
    new_round = (np.diff(candidate[order]) != 0) | (np.diff(turn[order]) != 0)
    # A round has at most one pair of each frame, so no label or detection comes twice in it.
    for pairs in np.split(order, np.flatnonzero(new_round) + 1):
        free = ~served[label[pairs]] & ~taken[detection[pairs]]
        free &= score[pairs, None] >= thresholds
        chosen[pairs] = free
        served[label[pairs]] |= free
        taken[detection[pairs]] |= free
    return chosen


def _position(groups: np.ndarray) -> np.ndarray:
    """Place of each element in its run of equal values, counted from 0."""
    starts = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
