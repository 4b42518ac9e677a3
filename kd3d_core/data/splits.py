"""Lists of frames: read from files, or made by splitting a data set by its drives."""

from pathlib import Path

from kd3d_core.errors import DataError
from kd3d_core.files import read_text


def read_split(path: Path | str) -> list[str]:
    """Frame names of a split list (`train.txt`): one per line, in its order."""
    try:
        names = read_text(path).split()
    except DataError as error:
        raise DataError(
            f"{error}; give a text file with the name of a frame in each line"
        ) from None
    if len(set(names)) != len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise DataError(f"{path}: frame {twice} is listed twice")
    return names


def listed_frames(file: str | None, root: str) -> list[str] | None:
    """Frame names of a split list in a data set's folder, or where its path says; None for None."""
    if file is None:
        return None
    inside, elsewhere = Path(root).expanduser() / file, Path(file)
    return read_split(elsewhere if elsewhere.is_file() and not inside.is_file() else inside)
