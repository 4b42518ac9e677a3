"""Lists of frames: read from files, or made by splitting a data set by its drives."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd3d_core.errors import DataError, shown
from kd3d_core.files import read_text


def read_split(path: Path | str) -> list[str]:
    """Frame names of a split list (`train.txt`): one per line, in its order."""
    try:
        names = read_text(path).split()
    except DataError as error:
        raise DataError(
            f"{error}; give a text file with the name of a frame in each line"
        ) from None
    if not names:
        raise DataError(f"{path}: the list is empty: give the name of a frame in each line")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: frame {shown(name)} is listed twice")
    return names


def listed_frames(file: str | None, root: str, setting: str) -> list[str] | None:
    """Frame names of a split list in a data set's folder, or where its path says; None for None.

    `DataError` if it is missing or malformed names the setting, and what to do without one.
    """
    if file is None:
        return None
    inside, elsewhere = Path(root).expanduser() / file, Path(file)
    path = elsewhere if elsewhere.is_file() and not inside.is_file() else inside
    try:
        return read_split(path)
    except DataError as error:
        hint = "" if path.exists() else f", or set {setting} to null if there are no lists"
        raise DataError(f"{setting}: {error}{hint}") from None


@dataclass(frozen=True)
class Split:
    """Frames to train on and frames to validate on, from different drives as far as can be told.

    Attributes:
        train: names of the frames to train on.
        val: names of the frames to validate on.
        how: what was kept together, `drives` or `blocks of frames`.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    how: str


_BLOCKS = 10
_DRIVE_AND_NUMBER = re.compile(r"(.+)[_-]\d+")


def split_frames(names: Sequence[str], meta: Mapping[str, Any], share: float = 0.2) -> Split:
    """Split a data set by drives, as frames of one drive show the same cars and street.

    A frame's drive is what `meta.json` says under `drives` (a list of frame names for each drive),
    or what its name says before its last number (`2011_09_26_drive_0001_sync_0000000005`,
    `0001_000123`). Where neither tells two drives apart, blocks of consecutive frames stand for
    them. The same frames are always split in the same way.

    Args:
        names: the frames, in order.
        meta: contents of the data set's `meta.json`.
        share: of the frames that should validate; drives stay whole, so it is met roughly.

    Raises:
        DataError: there are fewer than two frames, or `drives` is malformed.

    >>> split_frames(["0001_000000", "0001_000001", "0001_000002", "0002_000000"], {}, 0.25)
    Split(train=('0001_000000', '0001_000001', '0001_000002'), val=('0002_000000',), how='drives')
    """
    if len(names) < 2:
        raise DataError(f"{len(names)} frames can't be split: at least 2 are needed")
    drives, how = _drives(names, meta), "drives"
    if len(set(drives)) < 2:
        size = -(-len(names) // _BLOCKS)
        drives, how = [str(index // size) for index in range(len(names))], "blocks of frames"
    chosen = _validation_drives(Counter(drives), share * len(names))
    pairs = list(zip(names, drives, strict=True))
    return Split(
        tuple(name for name, drive in pairs if drive not in chosen),
        tuple(name for name, drive in pairs if drive in chosen),
        how,
    )


def _drives(names: Sequence[str], meta: Mapping[str, Any]) -> list[str]:
    """The drive of each frame; an empty name where it isn't known."""
    listed = meta.get("drives")
    if listed is None:
        matches = [_DRIVE_AND_NUMBER.fullmatch(name) for name in names]
        return ["" if match is None else match[1] for match in matches]
    if not isinstance(listed, dict) or not all(isinstance(part, list) for part in listed.values()):
        raise DataError("meta.json: `drives` must hold a list of frame names for each drive")
    drive_of = {str(name): drive for drive, part in listed.items() for name in part}
    return [drive_of.get(name, "") for name in names]


def _validation_drives(sizes: Mapping[str, int], wanted: float) -> set[str]:
    """Drives with about as many frames as are wanted, taken in no order of time."""
    chosen: set[str] = set()
    taken = 0
    for drive in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if taken < 0.9 * wanted and taken + sizes[drive] <= 1.5 * wanted:
            chosen.add(drive)
            taken += sizes[drive]
    return chosen or {min(sizes, key=lambda name: sizes[name])}
