"""What a checkpoint says of itself, in `meta.json`: found and read without loading torch."""

from pathlib import Path
from typing import Any

from kd3d_core.errors import DataError, WeightsError, first_line
from kd3d_core.files import read_json, write_json

META = "meta.json"
WEIGHTS = "model.safetensors"


def find(folder: Path) -> Path | None:
    """The checkpoint of that name, or what a kill between two renames left of it."""
    for path in (folder, folder.with_name(folder.name + ".old")):
        if (path / META).is_file() and (path / WEIGHTS).is_file():
            return path
    return None


def read_meta(folder: Path) -> dict[str, Any]:
    """What `save` was told for a reader."""
    try:
        meta = read_json(folder / META)
    except DataError as error:
        raise unreadable(folder, error) from None
    meta = {"losses": {}, "metrics": {}, "config": {}, "digests": {}, **meta}
    named = (meta[name] for name in ("losses", "metrics", "config", "digests"))
    if type(meta.get("step")) is not int or not all(isinstance(part, dict) for part in named):
        raise unreadable(folder, ValueError(f"{META} has no step, or lists where names belong"))
    values = [*meta["losses"].values(), *meta["metrics"].values()]
    if not all(isinstance(value, int | float) for value in values):
        raise unreadable(folder, ValueError(f"{META} has losses or metrics that aren't numbers"))
    return meta


def write_meta(folder: Path, meta: dict[str, Any]) -> None:
    """Replace what a reader wants to know of a checkpoint."""
    write_json(folder / META, meta)


def unreadable(folder: Path, error: Exception) -> WeightsError:
    """What to raise when a checkpoint isn't what a run has written."""
    return WeightsError(
        f"checkpoint {folder} can't be read: {first_line(error)}; delete it to start again"
    )
