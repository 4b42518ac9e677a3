"""The devkit's greedy assignment of detections to labels, for many score thresholds at once."""

import numpy as np


def assign(
    label: np.ndarray,
    detection: np.ndarray,
    frame: np.ndarray,
    score: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """Which pairs come about when labels, one after the other, take a detection.

    A label takes the first of its candidates that no earlier label of the frame has taken and
    whose score isn't below the threshold. Frames and thresholds don't affect each other, so all
    of them go at once, and Python loops only over (label of a frame, candidate of that label).

    Args:
        label: `(P,)` label of each candidate pair. Rising: pairs of a label stand together, the
            preferred first, and labels in the order in which they choose.
        detection: `(P,)` detection of each pair.
        frame: `(P,)` frame of each pair, rising.
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
