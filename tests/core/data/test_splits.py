"""Lists of frames, read or made."""

from itertools import pairwise
from pathlib import Path

import pytest

from kd3d_core.data.splits import listed_frames, read_split, split_frames
from kd3d_core.errors import DataError


def test_split_lists(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("000003\n000001\n")
    assert read_split(path) == ["000003", "000001"]
    path.write_bytes(b"\xef\xbb\xbf000003\r\n000001\r\n")
    assert read_split(path) == ["000003", "000001"]
    path.write_text("000003\n000001\n000003\n")
    with pytest.raises(DataError, match="000003 is listed twice"):
        read_split(path)


def test_lists_are_found_in_the_data_set_or_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "inside.txt").write_text("1 2")
    elsewhere = tmp_path / "elsewhere" / "val.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("3")
    assert listed_frames("inside.txt", str(tmp_path), "data.train") == ["1", "2"]
    assert listed_frames(str(elsewhere), str(tmp_path), "data.val") == ["3"]
    assert listed_frames(None, str(tmp_path), "data.val") is None
    missing = r"^data\.val: .*ImageSets/val\.txt: cannot be read: .*set data\.val to null"
    with pytest.raises(DataError, match=missing):
        listed_frames("ImageSets/val.txt", str(tmp_path), "data.val")


def names_of(drive: str, count: int) -> list[str]:
    return [f"{drive}_{index:06d}" for index in range(count)]


def drives_of(names: tuple[str, ...]) -> set[str]:
    return {name.rpartition("_")[0] for name in names}


@pytest.mark.parametrize("prefix", ["", "2011_09_26_drive_", "drive-"])
def test_drives_stay_whole(prefix: str) -> None:
    sizes = {f"{prefix}{number:04d}": 20 + 7 * number for number in range(12)}
    names = [name for drive, size in sizes.items() for name in names_of(drive, size)]
    split = split_frames(names, {})
    assert split.how == "drives"
    assert not drives_of(split.train) & drives_of(split.val)
    assert sorted(split.train + split.val) == sorted(names)
    assert 0.15 * len(names) < len(split.val) < 0.3 * len(names)
    assert split_frames(names, {}) == split
    assert [name for name in names if name in set(split.val)] == list(split.val)


def test_meta_json_says_the_drives() -> None:
    names = [f"{index:06d}" for index in range(30)]
    drives = {"monday": names[:10], "tuesday": names[10:15], "sunday": names[15:]}
    split = split_frames(names, {"drives": drives})
    assert split.how == "drives"
    assert {tuple(part) for part in drives.values()} >= {split.val}
    for wrong in (5, ["000000"], {"monday": 5}):
        with pytest.raises(DataError, match="drives"):
            split_frames(names, {"drives": wrong})


@pytest.mark.parametrize("name", ["{:06d}", "frame_{:06d}", "1317042272.{:06d}", "left{:03d}"])
def test_without_drives_blocks_of_consecutive_frames_stay_whole(name: str) -> None:
    names = [name.format(index) for index in range(200)]
    split = split_frames(names, {})
    assert split.how == "blocks of frames"
    assert len(split.val) == 40
    inside = [name in set(split.val) for name in names]
    changes = sum(one != other for one, other in pairwise(inside))
    assert changes <= 4


def test_few_frames_are_split_too() -> None:
    for count in range(2, 12):
        split = split_frames([str(index) for index in range(count)], {})
        assert split.train
        assert split.val
        assert len(split.val) <= len(split.train)
    with pytest.raises(DataError, match="at least 2"):
        split_frames(["000000"], {})


def test_an_empty_list_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("\n \n")
    with pytest.raises(DataError, match=r"^data\.val: .*val\.txt: the list is empty"):
        listed_frames("val.txt", str(tmp_path), "data.val")
