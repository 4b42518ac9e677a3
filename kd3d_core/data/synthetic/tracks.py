"""What frames of a rendered drive don't say: which object is which, and where we were."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import Label
from kd3d_core.data.synthetic.dataset import (
    RATE_HZ,
    SynthConfig,
    frame_names,
    frame_rig,
    sequence_drive,
)
from kd3d_core.data.synthetic.drive import Drive
from kd3d_core.data.track_labels import TrackLabel, tracks_text
from kd3d_core.files import write_all
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.points import transform

TRACKS_FILE, POSES_FILE = "tracks.txt", "poses.txt"

_MOST_M = 0.01  # between a label, as its file rounds it, and the object it is of


def write_tracks(config: SynthConfig, folder: Path) -> None:
    """Write `tracks.txt` and `poses.txt` beside the data set's `training`, for a drive.

    `tracks.txt` has the frames' labels in the format of KITTI's tracking set; ids are those of the
    actors. `poses.txt` has the camera's poses as KITTI's odometry set has them: a line for each
    frame with the first three rows of the 4x4 into the camera at the first frame.

    Args:
        folder: the data set, all of whose frames are there.
    """
    drive = sequence_drive(config)
    lines, poses = [], []
    for index, name in enumerate(frame_names(config)):
        labels = KittiDataset(folder).frame(name).labels()
        camera = frame_rig(config, index).rectified_camera
        rows = track_labels(drive, index / RATE_HZ, labels, camera)
        lines.append(tracks_text(index, rows))
        poses.append(drive.pose(index / RATE_HZ) @ camera.lidar_from_camera)
    first_from_world = np.linalg.inv(poses[0])
    rows_12 = [(first_from_world @ pose)[:3].reshape(-1) for pose in poses]
    text = "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows_12)
    write_all({folder / TRACKS_FILE: "".join(lines).encode(), folder / POSES_FILE: text.encode()})


def track_labels(
    drive: Drive, time_s: float, labels: Sequence[Label], camera: PinholeCamera
) -> list[TrackLabel]:
    """Labels of a moment of a drive with the numbers of its actors; -1 for `DontCare`."""
    objects = [label for label in labels if label.is_object]
    places = label_boxes(objects, camera.lidar_from_camera)[:, :3].astype(np.float64)
    actors = drive.places(time_s)
    away = transform(places, drive.pose(time_s))[:, None] - actors
    distance = np.linalg.norm(away, axis=-1)
    assert not objects or distance.min(1).max() < _MOST_M, "every label is of an actor"
    numbers = iter(distance.argmin(1).tolist())
    return [(next(numbers) if label.is_object else -1, label) for label in labels]
