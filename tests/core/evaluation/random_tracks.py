"""Sequences of objects and tracks with gaps, swaps, false ones and frames without any."""

import numpy as np

from kd3d_core.evaluation.tracking import FramePairs


def random_frames(seed: int) -> list[FramePairs]:
    """Thirty frames; the generator is one whose numbers stay the same in all versions of NumPy."""
    rng = np.random.RandomState(seed)
    owner = rng.permutation(10)
    frames = []
    for frame in range(30):
        if frame % 9 == 8:
            owner = rng.permutation(owner)
        truth = np.flatnonzero(rng.random_sample(8) < 0.8)
        tracks = np.flatnonzero(rng.random_sample(10) < 0.7)
        if frame == 12:
            truth = truth[:0]
        if frame == 17:
            tracks = tracks[:0]
        similarity = 0.6 * rng.random_sample((len(truth), len(tracks))) ** 4
        near = 0.3 + 0.7 * rng.random_sample(similarity.shape)
        similarity = np.where(owner[tracks][None] == truth[:, None], near, similarity)
        frames.append(FramePairs(truth + 100, tracks * 7, np.round(similarity, 2)))
    return frames
