"""What a checkpoint says of itself, in `meta.json`: found and read without loading torch."""

from pathlib import Path
from typing import Any

from kd3d_core.errors import DataError, WeightsError, first_line
from kd3d_core.files import read_json, write_json

META = "meta.json"


def find(folder: Path) -> Path | None:
    """The checkpoint of that name, or what a kill between two renames left of it."""
    for path in (folder, folder.with_name(folder.name + ".old")):
        if (path / META).is_file():
            return path
    return None


def read_meta(folder: Path) -> dict[str, Any]:
    """What `save` was told for a reader."""
    try:
        return read_json(folder / META)
    except DataError as error:
        raise unreadable(folder, error) from None


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Replace what a reader wants to know of a checkpoint."""
    write_json(folder / META, meta)


def unreadable(folder: Path, error: Exception) -> WeightsError:
    """What to raise when a checkpoint isn't what a run has written."""
    return WeightsError(
        f"checkpoint {folder} can't be read: {first_line(error)}; delete it to start again"
    )
