"""How well objects were followed: HOTA, and the CLEAR MOT measures (MOTA, identity switches).

HOTA: Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, IJCV 2021.
CLEAR MOT: Bernardin and Stiefelhagen, EURASIP 2008. Both as TrackEval computes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

_EPS = float(np.finfo(np.float64).eps)
_ALPHAS = np.arange(0.05, 0.99, 0.05)


@dataclass(frozen=True, eq=False)
class FramePairs:
    """The true objects and the tracks of a frame.

    Attributes:
        truth: `(G,)` ids of the objects, none twice.
        tracks: `(T,)` ids of the tracks, none twice.
        similarity: `(G, T)` from 0 (nothing in common) to 1 (the same).
    """

    truth: np.ndarray
    tracks: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True, eq=False)
class Hota:
    """HOTA and its parts at each of the 19 similarity thresholds, 0.05 to 0.95, `(19,)` each.

    Attributes:
        det_re, det_pr: recall and precision of the detections.
        ass_a: how well the frames of an object are held together by one id, as a mean over the
            matches of their Jaccard index; ass_re and ass_pr are its recall and precision.
        loc_a: mean similarity of the matches.
    """

    det_a: np.ndarray
    det_re: np.ndarray
    det_pr: np.ndarray
    ass_a: np.ndarray
    ass_re: np.ndarray
    ass_pr: np.ndarray
    loc_a: np.ndarray

    @property
    def hota(self) -> np.ndarray:
        """`(19,)`, the geometric mean of detection and association."""
        result: np.ndarray = np.sqrt(self.det_a * self.ass_a)
        return result

    def means(self) -> dict[str, float]:
        """Each as it is reported: the mean over the thresholds."""
        parts = ("det_a", "ass_a", "det_re", "det_pr", "ass_re", "ass_pr", "loc_a")
        return {
            "hota": float(self.hota.mean()),
            **{name: float(getattr(self, name).mean()) for name in parts},
        }


@dataclass(frozen=True)
class ClearMot:
    """Counts over all frames, at one similarity threshold.

    Attributes:
        matches, misses, false: objects that were found, that were not, and tracks on nothing.
        switches: how often an object is found under another id than the last time.
        similarity: of the matches, added up.
        objects, mostly_tracked, mostly_lost: number of objects, and of those that are found in
            more than 80 % and less than 20 % of their frames.
    """

    matches: int
    misses: int
    false: int
    switches: int
    similarity: float
    objects: int
    mostly_tracked: int
    mostly_lost: int

    @property
    def mota(self) -> float:
        """1 - (misses + false + switches) / true boxes; NaN without any."""
        truth = self.matches + self.misses
        return 1 - (self.misses + self.false + self.switches) / truth if truth else np.nan

    @property
    def motp(self) -> float:
        """Mean similarity of the matches; NaN without any."""
        return self.similarity / self.matches if self.matches else np.nan


def hota(frames: Sequence[FramePairs]) -> Hota:
    """HOTA over the frames of one sequence, or of several whose ids differ.

    >>> yes, other = np.array([[1.0]]), np.array([2])
    >>> one = np.array([1])
    >>> frames = [FramePairs(one, one, yes)] * 3 + [FramePairs(one, other, yes)]
    >>> means = hota(frames).means()  # always found, with another id in the last of four frames
    >>> round(means["det_a"], 3), round(means["ass_a"], 3), round(means["hota"], 3)
    (1.0, 0.625, 0.791)
    """
    truth_ids, truth = _numbered([frame.truth for frame in frames])
    track_ids, tracks = _numbered([frame.tracks for frame in frames])
    # First how well each object and track go together over all frames, which decides matches.
    aligned = np.zeros((truth_ids, track_ids))
    truth_count, track_count = np.zeros(truth_ids), np.zeros(track_ids)
    for frame, g, t in zip(frames, truth, tracks, strict=True):
        similarity = frame.similarity
        union = similarity.sum(0) + similarity.sum(1)[:, None] - similarity
        aligned[np.ix_(g, t)] += np.divide(
            similarity, union, out=np.zeros_like(similarity), where=union > _EPS
        )
        truth_count[g] += 1
        track_count[t] += 1
    aligned /= np.maximum(truth_count[:, None] + track_count - aligned, _EPS)
    ids, similarities = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for frame, g, t in zip(frames, truth, tracks, strict=True):
        row, column = linear_sum_assignment(-aligned[np.ix_(g, t)] * frame.similarity)
        ids.append(np.stack([g[row], t[column]], 1))
        similarities.append(frame.similarity[row, column])
    # Which object goes with which track, and how often at each threshold: (P, 2) and (19, P).
    pairs, pair = np.unique(np.concatenate(ids), axis=0, return_inverse=True)
    pair = pair.reshape(-1)  # NumPy 2.0 alone makes it (P, 1)
    similarity = np.concatenate(similarities)
    is_match = similarity >= _ALPHAS[:, None] - _EPS
    matched = np.stack([np.bincount(pair[each], minlength=len(pairs)) for each in is_match])
    truth_count, track_count = truth_count[pairs[:, 0]], track_count[pairs[:, 1]]
    found = matched.sum(1)
    truths, boxes = (sum(map(len, each)) for each in (truth, tracks))
    return Hota(
        det_a=found / np.maximum(truths + boxes - found, 1),
        det_re=found / max(truths, 1),
        det_pr=found / max(boxes, 1),
        ass_a=_weighted(matched, truth_count + track_count - matched),
        ass_re=_weighted(matched, truth_count),
        ass_pr=_weighted(matched, track_count),
        loc_a=np.where(found > 0, is_match @ similarity / np.maximum(found, 1), 1.0),
    )


def clear_mot(frames: Sequence[FramePairs], threshold: float = 0.5) -> ClearMot:
    """CLEAR MOT counts over the frames of one sequence, or of several whose ids differ.

    In each frame, pairs of the frame before are kept where they still are similar enough; the rest
    is matched for the largest similarity.

    >>> yes, one, other = np.array([[1.0]]), np.array([1]), np.array([2])
    >>> result = clear_mot([FramePairs(one, one, yes)] * 3 + [FramePairs(one, other, yes)])
    >>> result.switches, result.mota
    (1, 0.75)

    Args:
        threshold: least similarity of a match.
    """
    objects, truth = _numbered([frame.truth for frame in frames])
    _, tracks = _numbered([frame.tracks for frame in frames])
    last, before = np.full(objects, -1), np.full(objects, -1)  # track of each, and a frame ago
    seen, found = np.zeros(objects, np.int64), np.zeros(objects, np.int64)
    switches, similarity_sum = 0, 0.0
    for frame, g, t in zip(frames, truth, tracks, strict=True):
        seen[g] += 1
        if not (len(g) and len(t)):
            continue
        score = frame.similarity + 1000 * (t[None] == before[g][:, None])
        score = np.where(frame.similarity >= threshold - _EPS, score, 0)
        row, column = linear_sum_assignment(-score)
        is_match = score[row, column] > _EPS
        row, column = row[is_match], column[is_match]
        switches += int(((last[g[row]] >= 0) & (last[g[row]] != t[column])).sum())
        before[:] = -1
        last[g[row]] = before[g[row]] = t[column]
        found[g[row]] += 1
        similarity_sum += float(frame.similarity[row, column].sum())
    matches = int(found.sum())
    share = found / np.maximum(seen, 1)
    return ClearMot(
        matches=matches,
        misses=int(seen.sum()) - matches,
        false=sum(map(len, tracks)) - matches,
        switches=switches,
        similarity=similarity_sum,
        objects=objects,
        mostly_tracked=int((share > 0.8).sum()),
        mostly_lost=int((share < 0.2).sum()),
    )


def _numbered(ids: Sequence[np.ndarray]) -> tuple[int, list[np.ndarray]]:
    """How many ids there are in all frames, and those of each frame as numbers from 0."""
    known, number = np.unique(np.concatenate([np.zeros(0, np.int64), *ids]), return_inverse=True)
    return len(known), np.split(number, np.cumsum([len(each) for each in ids]))[: len(ids)]


def _weighted(matched: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`(A,)` mean over all matches of what share of `whole` their pair of ids has in common."""
    total: np.ndarray = (matched * matched / np.maximum(whole, 1)).sum(1)
    return total / np.maximum(matched.sum(1), 1)
