"""Sequences with ids as the tracking measures take them, by the rules of KITTI's tracking set.

Of a class, labels of its neighbour (a van for a car), hidden ones (occluded beyond 2) and truncated
ones need not be found, and what finds them is neither right nor wrong. Nor is what finds nothing
and is at most 25 px high, or more than half in a `DontCare` region. As TrackEval has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from kd3d_core.classes import NEIGHBOURS
from kd3d_core.data.labels import Label, to_judge
from kd3d_core.data.track_labels import TrackLabel, read_tracks
from kd3d_core.errors import DataError
from kd3d_core.evaluation.objects import (
    DONT_CARE,
    Objects,
    overlapping_pairs,
    share_in_dont_care,
)
from kd3d_core.evaluation.tracking import FramePairs
from kd3d_core.files import files_in

Similarity = Literal["3d", "bev", "bbox", "distance"]
"""Intersection over union in space, over ground or in the image; or how close the centres are."""

THRESHOLDS: dict[Similarity, float] = {"3d": 0.25, "bev": 0.25, "bbox": 0.5, "distance": 0.5}
"""From which similarity on a track is that of an object, for MOTA."""

FARTHEST_M = 4.0
"""Distance of centres over ground at which the similarity is 0; half of it is nuScenes's 2 m."""

_NEIGHBOURS = {name.lower(): other.lower() for name, other in NEIGHBOURS.items()}
_MIN_HEIGHT_PX = 25
_MAX_OCCLUSION = 2


@dataclass(frozen=True, eq=False)
class TrackedFrames:
    """Labels and tracks of all frames of some sequences, one after the other.

    Attributes:
        count: number of frames.
        truth, tracks: objects, sorted by frame.
        truth_ids, track_ids: `(N,)` their ids, which no two sequences share.
        notes: what limits the numbers.
    """

    count: int
    truth: Objects
    truth_ids: np.ndarray
    tracks: Objects
    track_ids: np.ndarray
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        sequences: Sequence[tuple[Mapping[int, Sequence[TrackLabel]], ...]],
        notes: Sequence[str] = (),
    ) -> "TrackedFrames":
        """Of pairs of labels and tracks, each by frame, as `read_tracks` gives them.

        >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
        >>> frames = TrackedFrames.of([({0: [(7, car)], 2: [(7, car)]}, {0: [(1, car)]})])
        >>> frames.count, frames.truth.frame.tolist(), frames.truth_ids.tolist()
        (3, [0, 2], [7, 7])
        """
        labels: tuple[list[list[Label]], list[list[Label]]] = ([], [])
        ids: tuple[list[int], list[int]] = ([], [])
        for pair in sequences:
            count = max([-1, *pair[0], *pair[1]]) + 1
            for side, by_frame in enumerate(pair):
                first = max(ids[side], default=0) + 1 if len(sequences) > 1 else 0
                for frame in range(count):
                    rows = by_frame.get(frame, ())
                    labels[side].append(to_judge([label for _, label in rows]))
                    ids[side].extend(first + number for number, _ in rows)
        return cls(
            len(labels[0]),
            Objects.from_frames(labels[0]),
            np.array(ids[0], np.int64),
            Objects.from_frames(labels[1]),
            np.array(ids[1], np.int64),
            tuple(notes),
        )

    def pairs(self, name: str, similarity: Similarity, threshold: float) -> list[FramePairs]:
        """What `tracking.hota` and `clear_mot` take, of a class, without what doesn't count.

        >>> car = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0", "example")
        >>> van = Label.parse("Van 0 0 0  0 0 50 50  1.5 1.6 4.0  9.0 1.7 20.0  0", "example")
        >>> near = Label.parse("Car 0 0 0  0 0 50 50  1.5 1.6 4.0  9.0 1.7 20.0  0 1", "example")
        >>> frames = TrackedFrames.of([({0: [(7, car), (8, van)]}, {0: [(1, car), (2, near)]})])
        >>> (pairs,) = frames.pairs("Car", "3d", 0.25)
        >>> pairs.truth.tolist(), pairs.tracks.tolist(), pairs.similarity.tolist()
        ([7], [1], [[1.0]])

        Args:
            name: of the class.
            threshold: from which similarity on a track finds what doesn't count.
        """
        name = name.lower()
        is_neighbour = self.truth.type == _NEIGHBOURS.get(name, "")
        takes_part = (self.truth.type == name) | is_neighbour
        counts = (self.truth.type == name) & (self.truth.occluded <= _MAX_OCCLUSION)
        counts &= self.truth.truncated <= 0
        is_class = self.tracks.type == name
        may_be_wrong = self.tracks.height_px > _MIN_HEIGHT_PX
        may_be_wrong &= share_in_dont_care(self.truth, self.tracks)["bbox"] <= 0.5
        result = []
        all_rows = self._rows(self.truth), self._rows(self.tracks)
        for labels, tracks, whole in zip(*all_rows, self._similarities(similarity), strict=True):
            g, t = labels[takes_part[labels]], tracks[is_class[tracks]]
            block = whole[np.ix_(takes_part[labels], is_class[tracks])]
            row, column = linear_sum_assignment(-np.where(block >= threshold, block, 0))
            is_match = block[row, column] >= threshold
            row, column = row[is_match], column[is_match]
            keep = may_be_wrong[t]
            keep[column] = counts[g[row]]
            result.append(
                FramePairs(
                    self.truth_ids[g[counts[g]]],
                    self.track_ids[t[keep]],
                    block[np.ix_(counts[g], keep)],
                )
            )
        return result

    def _rows(self, objects: Objects) -> list[np.ndarray]:
        """Indices of the objects of each frame."""
        borders = np.searchsorted(objects.frame, np.arange(1, self.count))
        return np.split(np.arange(len(objects.frame)), borders)[: self.count]

    def _similarities(self, similarity: Similarity) -> list[np.ndarray]:
        """Of each frame, `(G, T)` of all its labels and all its tracks."""
        labels, tracks = self._rows(self.truth), self._rows(self.tracks)
        if similarity == "distance":
            return [
                _closeness(self.truth.location[g], self.tracks.location[t])
                for g, t in zip(labels, tracks, strict=True)
            ]
        places = np.flatnonzero(self.truth.type != DONT_CARE)
        pairs = overlapping_pairs(
            self.truth, self.tracks, places, {"bbox": 0.0, "bev": 0.0, "3d": 0.0}
        )[similarity]
        blocks = [np.zeros((len(g), len(t))) for g, t in zip(labels, tracks, strict=True)]
        frame = self.truth.frame[pairs.label]
        borders = np.searchsorted(frame, np.arange(1, self.count))
        for block, part, g, t in zip(
            blocks, np.split(np.arange(len(frame)), borders), labels, tracks, strict=False
        ):
            if len(part):
                block[pairs.label[part] - g[0], pairs.detection[part] - t[0]] = pairs.overlap[part]
        return blocks


def _closeness(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    offset = places[:, None, [0, 2]] - others[None][..., [0, 2]]
    closeness: np.ndarray = np.maximum(1 - np.linalg.norm(offset, axis=-1) / FARTHEST_M, 0)
    return closeness


def read_sequences(labels: Path, tracks: Path) -> TrackedFrames:
    """A sequence from two files, or those of a folder, in the format of KITTI's tracking set.

    >>> from tempfile import TemporaryDirectory
    >>> line = "0 3 Car 0 0 0  0 0 50 50  1.5 1.6 4.0  2.0 1.7 20.0  0"
    >>> with TemporaryDirectory() as folder:
    ...     labels, tracks = Path(folder, "labels.txt"), Path(folder, "tracks.txt")
    ...     _ = labels.write_text(line), tracks.write_text(f"{line} 0.9")
    ...     frames = read_sequences(labels, tracks)
    >>> frames.count, frames.track_ids.tolist()
    (1, [3])

    Raises:
        DataError: a file is missing, or a line is wrong: file, line and field are named.
    """
    if labels.is_dir() != tracks.is_dir():
        raise DataError(f"{labels} and {tracks}: give two files, or two folders of files")
    if labels.is_dir():
        names = [path.name for path in files_in(labels, (".txt",))]
        if not names:
            raise DataError(f"{labels}: no label file (*.txt) in this folder")
        if missing := [name for name in names if not (tracks / name).is_file()]:
            raise DataError(
                f"{tracks}: {len(missing)} of {len(names)} sequences have no file in it, the "
                f"first is {missing[0]}"
            )
        files = [(labels / name, tracks / name) for name in names]
    else:
        files = [(labels, tracks)]
    sequences, notes = [], []
    for label_file, track_file in files:
        truth, found = read_tracks(label_file), read_tracks(track_file, scored=True)
        if truth and (late := [frame for frame in found if frame > max(truth)]):
            notes.append(
                f"{track_file}: {len(late)} frames are after the last label, {max(truth)}, and "
                "all their tracks count as wrong"
            )
        sequences.append((truth, found))
    return TrackedFrames.of(sequences, notes)
