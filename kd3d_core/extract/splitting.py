"""Which frames train and which validate, so that nothing of the one is seen in the other."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from kd3d_core.data.splits import split_frames

_GAP_S = 1.0
_STRETCH_FRAMES = 50
_MOST_STRETCHES = 10
_GAP_SHARE = 0.1


def split_by_time(
    drives: Mapping[str, Sequence[tuple[str, int]]], share: float
) -> tuple[list[str], list[str]]:
    """Names of the frames to train on, and of those to validate on.

    Whole recordings validate if that comes near the share. Otherwise each recording is cut into
    stretches of equal length, whose last part validates, and frames on its borders are in neither:
    those within a second, but at most a tenth of a stretch on each side, and at least one.

    Args:
        drives: names and stamps, in nanoseconds, of the frames of each recording, in order.
        share: of the frames that should validate.

    >>> split_by_time({"a": [(f"{i}", i * 10**9) for i in range(10)]}, 0.2)
    (['0', '1', '2', '3', '4', '5', '6'], ['8', '9'])
    """
    names = {drive: [name for name, _ in frames] for drive, frames in drives.items()}
    everything = [name for part in names.values() for name in part]
    if not share:
        return everything, []
    if sum(map(bool, names.values())) > 1:
        split = split_frames(everything, {"drives": names}, share)
        if 0.5 * share <= len(split.val) / len(everything) <= 1.5 * share:
            return list(split.train), list(split.val)
    train: list[str] = []
    val: list[str] = []
    for frames in drives.values():
        _split_drive(frames, share, train, val)
    return train, val


def _split_drive(
    frames: Sequence[tuple[str, int]], share: float, train: list[str], val: list[str]
) -> None:
    count = max(1, min(_MOST_STRETCHES, len(frames) // _STRETCH_FRAMES))
    borders = [len(frames) * number // count for number in range(count + 1)]
    part: dict[
        int, int
    ] = {}  # of each frame, which one it is in: even ones train, odd ones validate
    for number, (start, end) in enumerate(pairwise(borders)):
        first_val = end - round(share * (end - start))
        part |= dict.fromkeys(range(start, first_val), 2 * number)
        part |= dict.fromkeys(range(first_val, end), 2 * number + 1)
    most = max(1, int(_GAP_SHARE * len(frames) / count))
    for number, (name, stamp_ns) in enumerate(frames):
        if part[number] % 2:
            val.append(name)
            continue
        around = range(max(number - most, 0), min(number + most + 1, len(frames)))
        near = (
            abs(other - number) == 1 or abs(frames[other][1] - stamp_ns) < _GAP_S * 1e9
            for other in around
            if part[other] % 2
        )
        if not any(near):
            train.append(name)
