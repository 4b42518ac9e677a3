"""Which image belongs to which scan, and what is odd about clocks."""

from array import array

import numpy as np
import pytest

from kd3d_core.extract.index import TopicIndex
from kd3d_core.extract.sync import Times, look_at_clock, match, usable

MS = 10**6


def times(*stamps_ms: float, recorded_ms: tuple[float, ...] | None = None) -> Times:
    recorded = stamps_ms if recorded_ms is None else recorded_ms
    return Times(
        (np.array(stamps_ms) * MS).astype(np.int64), (np.array(recorded) * MS).astype(np.int64)
    )


def index(stamps_ms: list[float], recorded_ms: list[float]) -> TopicIndex:
    found = TopicIndex()
    found.stamp_ns = array("q", [round(stamp * MS) for stamp in stamps_ms])
    found.recorded_ns = array("q", [round(stamp * MS) for stamp in recorded_ms])
    return found


def test_the_nearest_image_is_taken_up_to_the_limit() -> None:
    found, lost = match(times(100, 200, 300), times(90, 130, 219.9, 321), 20 * MS)
    assert found.tolist() == [0, 2, -1]
    assert not lost.any()
    assert match(times(100), times(120), 20 * MS)[0].tolist() == [0]
    assert match(times(100), times(120.001), 20 * MS)[0].tolist() == [-1]


def test_an_image_has_one_scan() -> None:
    """At half the LiDAR's rate, every other scan has its image, and the others know why not."""
    found, lost = match(times(0, 100, 200, 300), times(60, 190), 100 * MS)
    assert found.tolist() == [-1, 0, 1, -1]
    assert lost.tolist() == [True, False, False, False]
    assert match(times(0, 100), times(50), 50 * MS)[0].tolist() == [0, -1]  # of two, the first


def test_a_clock_that_jumps_back_shows_no_image_of_before() -> None:
    """Stamps 0 to 200 come twice, ten minutes apart in the recording."""
    stamps, later = (0, 100, 200), (600_000, 600_100, 600_200)
    scans = times(*stamps, *stamps, recorded_ms=(*stamps, *later))
    images = times(*stamps, 1, 101, 201, recorded_ms=(*stamps, *later))
    assert match(scans, images, 20 * MS)[0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", range(5))
def test_matching_against_a_plain_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scans, images = (times(*np.sort(rng.uniform(0, 2000, count))) for count in (40, 60))
    found, lost = match(scans, images, 15 * MS)
    offsets = np.abs(scans.stamps[:, None] - images.stamps)
    nearest = offsets.argmin(1)
    for scan, image in enumerate(found.tolist()):
        is_near = offsets[scan, nearest[scan]] <= 15 * MS
        rivals = np.flatnonzero(nearest == nearest[scan])
        is_first = offsets[scan, nearest[scan]] == offsets[rivals, nearest[scan]].min()
        assert image == (nearest[scan] if is_near and is_first else -1)
        assert lost[scan] == (is_near and not is_first)


def test_messages_without_stamp_or_with_another_ones_are_named() -> None:
    kept, reasons = usable(np.array([30, 0, 40, 30, 0, 50, 40, 40]))
    assert kept.tolist() == [0, 2, 5]
    assert [count for _, count in reasons.items()] == [2, 3]


def test_clocks() -> None:
    steady = look_at_clock(index([0.5, 100, 200, 300], [9, 109, 209, 309]))
    assert (steady.jump_count, steady.duplicate_stamps, steady.zero_stamps) == (0, 0, 0)
    assert steady.rate_hz == pytest.approx(10)
    pause = look_at_clock(index([100, 200, 9000], [109, 209, 9009]))
    assert pause.jump_count == 0
    odd = look_at_clock(index([5000, 5100, 0, 1200, 1300, 1300], [9, 109, 209, 309, 409, 509]))
    assert (odd.zero_stamps, odd.duplicate_stamps, odd.jump_count) == (1, 1, 1)
    (jump,) = odd.jumps
    assert jump.recorded_ns == 309 * MS
    assert jump.step_s == pytest.approx(-4.1)
    assert look_at_clock(index([100], [100])).rate_hz is None
