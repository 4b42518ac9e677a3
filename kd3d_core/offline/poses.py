"""Where the camera was at each image of a folder, from a file in the format of KITTI's odometry."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.files import read_text
from kd3d_core.frames import Frame
from kd3d_core.geometry.pose import pose_from_matrix
from kd3d_core.offline.source import FrameReference, Source


def with_poses(source: Source, path: Path, wanted: slice) -> Source:
    """A source of images whose frames know where the detector was.

    Args:
        path: a line for each image of the folder: 12 numbers, the first three rows of the 4x4 from
            the rectified camera at that image to the one at the first.
        wanted: which of the images the source has.

    Raises:
        DataError: a line is wrong, or there aren't as many as images.
    """
    poses = read_poses(path)
    references = list(source.references)
    if len(poses[wanted]) != len(references):
        raise DataError(
            f"{path}: it has {len(poses)} poses, {len(poses[wanted])} of them for the frames that "
            f"are asked for, which are {len(references)}: give a file with a line per image"
        )
    placed = [
        FrameReference(reference.name, partial(_load, reference, pose))
        for reference, pose in zip(references, poses[wanted], strict=True)
    ]
    return replace(source, references=placed)


def read_poses(path: Path) -> list[np.ndarray]:
    """The 4x4 poses in a file of KITTI's odometry set; `DataError` names file and line."""
    poses = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        pose = np.eye(4)
        try:
            pose[:3] = np.array([float(word) for word in line.split()]).reshape(3, 4)
            pose_from_matrix(pose)
        except (ValueError, CalibrationError):
            raise DataError(
                f"{path}:{number}: a pose is 12 numbers, the first three rows of a rigid 4x4"
            ) from None
        poses.append(pose)
    return poses


def _load(reference: FrameReference, world_from_camera: np.ndarray) -> Frame:
    frame = reference.load()
    pose = world_from_camera @ frame.camera.camera_from_lidar
    return replace(frame, world_from_detector=pose)
