"""Labels of KITTI's tracking set, and results in its format: frame, track id, then a label."""

from collections.abc import Iterable
from pathlib import Path

from kd3d_core.data.labels import Label
from kd3d_core.errors import DataError
from kd3d_core.files import read_text

_MOST_BYTES = 400_000_000  # hours of a busy street

TrackLabel = tuple[int, Label]
"""Track id and label; `DontCare` regions have -1."""


def read_tracks(path: Path | str, scored: bool = False) -> dict[int, list[TrackLabel]]:
    """Labels or results of a sequence, by frame.

    Args:
        scored: whether each line must have a score, as those of results have.

    Raises:
        DataError: names file, line and field. An id that comes twice in a frame is an error, too.
    """
    frames: dict[int, list[TrackLabel]] = {}
    known: set[tuple[int, int]] = set()
    for number, line in enumerate(read_text(path, _MOST_BYTES).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        frame, _, rest = line.strip().partition(" ")
        track, _, rest = rest.strip().partition(" ")
        if not frame.isdecimal() or not track.removeprefix("-").isdecimal():
            raise DataError(f"{where}: a tracking label begins with frame and track id")
        label = Label.parse(rest, where)
        if scored and label.score is None:
            raise DataError(f"{where}: field 'score' is missing: a result has 18 fields")
        if label.is_object and (int(frame), int(track)) in known:
            raise DataError(f"{where}: track {track} has two objects in frame {frame}")
        known.add((int(frame), int(track)))
        frames.setdefault(int(frame), []).append((int(track), label))
    return frames


def read_tracking_labels(path: Path | str) -> dict[int, list[Label]]:
    """As `read_tracks`, without the ids."""
    return {frame: [label for _, label in labels] for frame, labels in read_tracks(path).items()}


def tracks_text(frame: int, labels: Iterable[TrackLabel]) -> str:
    """The lines of a frame."""
    return "".join(f"{frame} {track} {label}\n" for track, label in labels)
