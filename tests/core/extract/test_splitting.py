"""Training and validation see nothing of each other."""

from itertools import pairwise

import pytest

from kd3d_core.extract.splitting import split_by_time


def drive(name: str, count: int, period_s: float = 0.1) -> dict[str, list[tuple[str, int]]]:
    return {name: [(f"{name}{i:06d}", round(i * period_s * 1e9)) for i in range(count)]}


@pytest.mark.parametrize("count", [5, 31, 100, 4321])
@pytest.mark.parametrize("period_s", [0.1, 2.0])
def test_no_neighbours_in_both_lists(count: int, period_s: float) -> None:
    frames = drive("a", count, period_s)
    train, val = split_by_time(frames, 0.2)
    part = dict.fromkeys(train, "train") | dict.fromkeys(val, "val")
    assert len(part) == len(train) + len(val)
    assert len(val) == pytest.approx(0.2 * count, rel=0.1, abs=1)
    assert len(train) >= 0.5 * count
    for (before, _), (after, _) in pairwise(frames["a"]):
        assert {part.get(before), part.get(after)} != {"train", "val"}
    if count > 1000:  # where a tenth of a stretch is more than a second
        stamps = dict(frames["a"])
        ends = [stamps[name] for name in val]
        nearest = min(abs(stamps[name] - end) for name in train for end in ends[:: len(ends) // 9])
        assert nearest >= 1e9


def test_whole_recordings_validate_where_that_comes_near_the_share() -> None:
    frames = {}
    for name in "abcde":
        frames |= drive(name, 40)
    train, val = split_by_time(frames, 0.2)
    assert len(val) == 40
    assert len({name[0] for name in val}) == 1
    assert {name[0] for name in train}.isdisjoint(name[0] for name in val)


def test_two_equal_recordings_are_split_by_time() -> None:
    train, val = split_by_time(drive("a", 50) | drive("b", 50), 0.2)
    assert {name[0] for name in val} == {name[0] for name in train} == {"a", "b"}
    assert len(val) == 20


def test_nothing_may_be_asked_for_validation() -> None:
    train, val = split_by_time(drive("a", 7), 0.0)
    assert (len(train), val) == (7, [])
