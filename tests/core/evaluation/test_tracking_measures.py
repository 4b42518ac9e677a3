"""HOTA and CLEAR MOT, beside numbers made by hand and by TrackEval."""

import numpy as np
import pytest
from random_tracks import random_frames

from kd3d_core.evaluation.tracking import FramePairs, clear_mot, hota

# TrackEval 1.3.0 on `random_frames(seed)`: HOTA, DetA, AssA, DetRe, DetPr, AssRe, AssPr, LocA, each
# the mean over its thresholds; matches, misses, false, IDSW, MT, ML; MOTA, MOTP.
TRACKEVAL = {
    0: (
        (
            0.173966701,
            0.349666317,
            0.089529705,
            0.478654971,
            0.463214488,
            0.146449890,
            0.176067322,
            0.733090367,
        ),
        (101, 79, 85, 48, 0, 0),
        (-0.177777778, 0.690990099),
    ),
    1: (
        (
            0.188064512,
            0.350310603,
            0.103214807,
            0.510075188,
            0.439719990,
            0.174352362,
            0.185058182,
            0.741154360,
        ),
        (102, 73, 101, 39, 0, 0),
        (-0.217142857, 0.698333333),
    ),
    2: (
        (
            0.164217770,
            0.312517001,
            0.089593485,
            0.476104053,
            0.398279352,
            0.155539621,
            0.166645870,
            0.730184673,
        ),
        (89, 85, 119, 40, 0, 0),
        (-0.402298851, 0.704269663),
    ),
    3: (
        (
            0.201119304,
            0.363644638,
            0.112803904,
            0.540617849,
            0.467012602,
            0.186321619,
            0.202489065,
            0.779991428,
        ),
        (111, 73, 102, 37, 0, 0),
        (-0.152173913, 0.767837838),
    ),
}


def frame(truth: list[int], tracks: list[int], similarity: float = 1.0) -> FramePairs:
    """Objects and tracks in pairs, as far as there are as many."""
    same = similarity * np.eye(len(truth), len(tracks))
    return FramePairs(np.array(truth, int), np.array(tracks, int), same)


@pytest.mark.parametrize("seed", TRACKEVAL)
def test_random_sequences_as_trackeval_has_them(seed: int) -> None:
    means, counts, mota = TRACKEVAL[seed]
    frames = random_frames(seed)
    names = ("hota", "det_a", "ass_a", "det_re", "det_pr", "ass_re", "ass_pr", "loc_a")
    found = hota(frames).means()
    np.testing.assert_allclose([found[name] for name in names], means, atol=2e-9)
    mot = clear_mot(frames)
    assert counts == (
        *(mot.matches, mot.misses, mot.false, mot.switches),
        *(mot.mostly_tracked, mot.mostly_lost),
    )
    np.testing.assert_allclose([mot.mota, mot.motp], mota, atol=2e-9)


@pytest.mark.parametrize(
    ("frames", "det_a", "ass_a"),
    [
        ([frame([1, 2], [5, 6])] * 10, 1, 1),
        # One object under two ids: each match has half of the object's frames.
        ([frame([1], [5])] * 5 + [frame([1], [6])] * 5, 1, 1 / 2),
        # Two objects change ids: half of an object's frames, half of which are another's.
        ([frame([1, 2], [5, 6])] * 5 + [frame([1, 2], [6, 5])] * 5, 1, 1 / 3),
        # Found in half of the frames.
        ([frame([1], [5])] * 5 + [frame([1], [])] * 5, 1 / 2, 1 / 2),
        # A false track in each frame.
        ([frame([1], [5, 6])] * 10, 1 / 2, 1),
        ([frame([1], [])] * 3, 0, 0),
        ([frame([], [5])] * 3, 0, 0),
        ([], 0, 0),
    ],
)
def test_hota_by_hand(frames: list[FramePairs], det_a: float, ass_a: float) -> None:
    means = hota(frames).means()
    np.testing.assert_allclose(
        [means["det_a"], means["ass_a"], means["hota"]], [det_a, ass_a, np.sqrt(det_a * ass_a)]
    )


def test_hota_counts_thresholds_up_to_the_similarity() -> None:
    result = hota([frame([1], [5], 0.62)] * 4)
    assert result.means()["hota"] == pytest.approx(12 / 19)
    assert result.hota.tolist() == [1.0] * 12 + [0.0] * 7
    assert result.loc_a.tolist() == pytest.approx([0.62] * 12 + [1.0] * 7)


def test_hota_matches_what_belongs_together_over_all_frames() -> None:
    """In the last frame another track is a bit nearer, but the old one still near enough."""
    last = FramePairs(np.array([1]), np.array([5, 6]), np.array([[0.7, 0.8]]))
    means = hota([frame([1], [5], 0.7)] * 9 + [last]).means()
    assert means["ass_re"] == pytest.approx(14 / 19)


def test_mota_by_hand() -> None:
    """Ten boxes: one missed, two false ones, one switch."""
    frames = [frame([1, 2], [5, 6])] * 2 + [
        frame([1, 2], [5]),
        frame([1, 2], [5, 7, 8]),
        frame([1, 2], [5, 7, 9]),
    ]
    result = clear_mot(frames)
    assert (result.matches, result.misses, result.false, result.switches) == (9, 1, 2, 1)
    assert result.mota == pytest.approx(1 - (1 + 2 + 1) / 10)
    assert (result.objects, result.mostly_tracked, result.mostly_lost) == (2, 1, 0)


def test_a_pair_of_the_frame_before_is_kept_though_another_is_nearer() -> None:
    nearer = FramePairs(np.array([1]), np.array([5, 6]), np.array([[0.6, 0.9]]))
    too_far = FramePairs(np.array([1]), np.array([5, 6]), np.array([[0.4, 0.9]]))
    assert clear_mot([frame([1], [5]), nearer]).switches == 0
    assert clear_mot([frame([1], [5]), too_far]).switches == 1
    assert clear_mot([frame([1], [5]), too_far], threshold=0.4).switches == 0


def test_a_switch_counts_across_a_gap() -> None:
    assert clear_mot([frame([1], [5]), frame([1], []), frame([1], [6])]).switches == 1
    assert clear_mot([frame([1], [5]), frame([], [5]), frame([1], [5])]).switches == 0


def test_without_anything_there_is_no_mota() -> None:
    assert np.isnan(clear_mot([]).mota)
    assert np.isnan(clear_mot([frame([], [5])]).mota)
    assert clear_mot([frame([], [5])]).false == 1
    assert clear_mot([frame([1], [])]).mota == 0
