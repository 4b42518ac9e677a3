"""Tracks and poses of a rendered drive: which label is whose, and where the camera was."""

from pathlib import Path

import numpy as np

from kd3d_core.data.kitti_writer import KittiWriter
from kd3d_core.data.labels import read_labels
from kd3d_core.data.synthetic.dataset import (
    RATE_HZ,
    SynthConfig,
    frame_names,
    frame_rig,
    sequence_drive,
)
from kd3d_core.data.synthetic.labels import make_labels
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.tracks import write_tracks
from kd3d_core.data.track_labels import read_tracks
from kd3d_core.geometry.points import transform
from kd3d_core.offline.poses import read_poses

CONFIG = SynthConfig(3, seed=11, sequence=True)


def write_drive(folder: Path) -> None:
    """A drive's labels, as rendering it would write them, and pictures of nothing."""
    drive = sequence_drive(CONFIG)
    for index, name in enumerate(frame_names(CONFIG)):
        rig = frame_rig(CONFIG, index)
        moment = drive.moment(index / RATE_HZ)
        labels = make_labels(moment, RayCaster(moment.mesh.triangles), rig.rectified_camera)
        image = np.zeros((375, 1242, 3), np.uint8)
        KittiWriter(folder).write(name, image, rig.calib_text(), np.zeros((1, 4)), labels)


def test_ids_are_those_of_the_actors_wherever_they_move(tmp_path: Path) -> None:
    write_drive(tmp_path)
    write_tracks(CONFIG, tmp_path)
    tracks, poses = read_tracks(tmp_path / "tracks.txt"), read_poses(tmp_path / "poses.txt")
    drive = sequence_drive(CONFIG)
    assert list(tracks) == [0, 1, 2]
    assert len(poses) == 3
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
    first_camera = frame_rig(CONFIG, 0).rectified_camera
    first_from_world = np.linalg.inv(drive.pose(0) @ first_camera.lidar_from_camera)
    seen = set()
    for frame, rows in tracks.items():
        path = tmp_path / "training" / "label_2" / f"{frame:06d}.txt"
        assert [label for _, label in rows] == read_labels(path)
        actors = transform(drive.places(frame / RATE_HZ), first_from_world)
        for number, label in rows:
            assert label.is_object == (number >= 0)
            if label.is_object:
                seen.add(number)
                assert drive.actors[number].type == label.type
                (place,) = transform(np.array([label.location]), poses[frame])
                np.testing.assert_allclose(place, actors[number], atol=1e-3)
    assert len(seen) > 5
