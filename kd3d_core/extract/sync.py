"""Which image belongs to which scan, and what is odd about clocks."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.extract.index import TopicIndex
from kd3d_core.extract.summary import ClockJump

_JUMP_S = 1.0
_MOST_JUMPS = 20
# Between a scan and its image in the recording, whatever their headers say: clocks that jump show
# the same time twice.
_NEIGHBOURHOOD_NS = 5 * 10**9

NO_STAMP = "without a stamp in its header (--clock record takes the recording's)"
SAME_STAMP = "with the stamp of an earlier one"
FAR = "without an image near enough in time"
TAKEN = "with an image that is nearer to another scan"


@dataclass(frozen=True)
class Clock:
    """What the stamps of a topic tell.

    Attributes:
        rate_hz: median; None for fewer than two messages.
        zero_stamps: messages whose header has no stamp.
        duplicate_stamps: messages with the header stamp of an earlier one.
        jumps: of the header's clock against the recording's, the first ones.
        jump_count: all of them.
    """

    rate_hz: float | None
    zero_stamps: int
    duplicate_stamps: int
    jumps: tuple[ClockJump, ...]
    jump_count: int


def look_at_clock(index: TopicIndex) -> Clock:
    """What is odd about the stamps of a topic."""
    recorded, stamps = as_array(index.recorded_ns), as_array(index.stamp_ns)
    steps = np.diff(recorded)
    steps = steps[steps > 0]
    rate_hz = float(1e9 / np.median(steps)) if len(steps) else None
    has_stamp = stamps > 0
    recorded, stamps = recorded[has_stamp], stamps[has_stamp]
    drift_s = np.diff(stamps - recorded) / 1e9
    jumped = np.flatnonzero(np.abs(drift_s) > _JUMP_S)
    jumps = tuple(
        ClockJump(int(recorded[at + 1]), round(float(drift_s[at]), 3))
        for at in jumped[:_MOST_JUMPS]
    )
    duplicates = len(stamps) - len(np.unique(stamps))
    return Clock(rate_hz, int((~has_stamp).sum()), duplicates, jumps, len(jumped))


def usable(stamps: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Messages that can be told apart by their stamps: their numbers, and why not the others.

    >>> kept, reasons = usable(np.array([5, 0, 7, 5]))
    >>> kept.tolist(), list(reasons.values())
    ([0, 2], [1, 1])
    """
    _, first = np.unique(stamps, return_index=True)
    kept = np.sort(first[stamps[first] > 0])
    zeros = int((stamps <= 0).sum())
    reasons = {NO_STAMP: zeros, SAME_STAMP: len(stamps) - zeros - len(kept)}
    return kept, {reason: count for reason, count in reasons.items() if count}


@dataclass(frozen=True, eq=False)
class Times:
    """When messages were measured and recorded, `(N,)` int64 each, in the recording's order."""

    stamps: np.ndarray
    recorded: np.ndarray


def match(scans: Times, images: Times, max_offset_ns: int) -> tuple[np.ndarray, np.ndarray]:
    """The image of each scan: the nearest by stamp, if it isn't nearer to another scan.

    Returns:
        `(N,)` number of the image, -1 for none; and `(N,)` bool: whether that is because another
        scan is nearer to it.

    >>> scans = Times(np.array([0, 100, 200]), np.array([0, 100, 200]))
    >>> images = Times(np.array([10, 120]), np.array([10, 120]))
    >>> match(scans, images, 50)
    (array([ 0,  1, -1]), array([False, False, False]))
    >>> match(scans, images, 80)[0].tolist(), match(scans, images, 80)[1].tolist()
    ([0, 1, -1], [False, False, True])
    """
    nearest = np.full(len(scans.stamps), -1)
    low = np.searchsorted(images.recorded, scans.recorded - _NEIGHBOURHOOD_NS, "left")
    high = np.searchsorted(images.recorded, scans.recorded + _NEIGHBOURHOOD_NS, "right")
    for scan, (first, last) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if first < last:
            offsets = np.abs(images.stamps[first:last] - scans.stamps[scan])
            best = int(offsets.argmin())
            if offsets[best] <= max_offset_ns:
                nearest[scan] = first + best
    found = np.flatnonzero(nearest >= 0)
    offsets = np.abs(images.stamps[nearest[found]] - scans.stamps[found])
    order = np.lexsort((found, offsets))  # nearest first, the earlier of two equal ones
    _, winners = np.unique(nearest[found][order], return_index=True)
    lost = np.zeros(len(nearest), bool)
    lost[found] = True
    lost[found[order[winners]]] = False
    return np.where(lost, -1, nearest), lost


def as_array(values: object) -> np.ndarray:
    """The numbers of an `array("q")`, `(N,)` int64."""
    return np.array(values, np.int64)
