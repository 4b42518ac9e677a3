"""Tracks of a run in one file: in the format of KITTI's tracking set, or with velocities as CSV."""

from pathlib import Path
from typing import Any

import numpy as np

from kd3d_core.data.label_boxes import all_box_labels
from kd3d_core.data.track_labels import tracks_text
from kd3d_core.errors import Kd3dError
from kd3d_core.files import write_whole
from kd3d_core.frames import FrameResult
from kd3d_core.offline.sinks import Sink
from kd3d_core.tracking import Tracks

ENDINGS = (".txt", ".csv")

_CSV_HEAD = (
    "frame,stamp_ns,id,class,score,x,y,z,length,width,height,yaw,vx,vy,vz,over_ground,unseen_s\n"
)


class TrackSink(Sink):
    """A line per frame and track, also for frames in which a track isn't detected.

    `.txt` is what `kd3d-eval tracking` and KITTI's tools read, without what the image doesn't show;
    `.csv` has the boxes of `kd3d_core.geometry.boxes` and velocities, in the frame of the results.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in ENDINGS:
            raise Kd3dError(
                f"--tracks {path}: give a name that ends in .txt (KITTI's tracking format) or .csv"
            )
        self._path = path
        self._lines = [_CSV_HEAD] if path.suffix == ".csv" else []
        self._count = 0

    def add(self, result: FrameResult) -> None:
        """Take the tracks of the next frame, which has the number in its name or in the run."""
        name = result.frame.name
        frame = int(name) if name.isdecimal() else self._count
        self._count += 1
        if result.tracks is not None:
            make = _csv if self._path.suffix == ".csv" else _kitti
            self._lines.append(make(frame, result, result.tracks))

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            write_whole(self._path, "".join(self._lines).encode())


def _kitti(frame: int, result: FrameResult, tracks: Tracks) -> str:
    labels = all_box_labels(tracks.boxes, tracks.scores.tolist(), tracks.names, result.frame.camera)
    rows = zip(tracks.ids.tolist(), labels, strict=True)
    return tracks_text(frame, [(number, label) for number, label in rows if label.has_image_box])


def _csv(frame: int, result: FrameResult, tracks: Tracks) -> str:
    numbers = np.column_stack([tracks.scores, tracks.boxes, tracks.velocities])
    rows = zip(tracks.ids, tracks.names, numbers, tracks.unseen_s, strict=True)
    return "".join(
        f"{frame},{result.frame.stamp_ns},{number},{name},"
        f"{','.join(f'{value:.4f}' for value in row)},{int(tracks.is_over_ground)},{unseen:.3f}\n"
        for number, name, row, unseen in rows
    )
