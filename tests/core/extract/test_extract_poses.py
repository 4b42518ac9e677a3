"""Where cameras are in extracted data sets: by the recording's transforms, or by a file."""

from pathlib import Path

import numpy as np
from small_recording import LIDAR_FROM_CAMERA, MS, START_NS, camera, scans, static, write

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.run import extract
from kd3d_core.messages.types import Transform, Transforms


def lifted(height_m: float) -> np.ndarray:
    pose = np.eye(4)
    pose[2, 3] = height_m
    return pose


def test_a_camera_on_a_mast_is_where_it_was_at_its_images_stamp(tmp_path: Path) -> None:
    """A chain of three, of which /tf says the middle one every 200 ms: it rises by 1 m/s."""
    ends = (
        Transform(START_NS, "lidar", "base", lifted(0.5)),
        Transform(START_NS, "mast", "camera", LIDAR_FROM_CAMERA),
    )
    recorded = [("/tf_static", START_NS, Transforms(ends)), *scans(6), *camera(12)]
    for number in range(5):
        stamp = START_NS + (200 * number - 100) * MS
        moved = Transform(stamp, "base", "mast", lifted(0.2 * number))
        recorded.append(("/tf", stamp, Transforms((moved,))))
    extract([write(tmp_path / "bag", recorded)], tmp_path / "out", ExtractConfig())
    dataset = KittiDataset(tmp_path / "out")
    assert len(dataset) == 6
    for number, frame in enumerate(dataset):
        after_s = 0.1 * number + 0.004 + 0.1  # the image is 4 ms later than the scan
        expected = lifted(0.5 + after_s) @ LIDAR_FROM_CAMERA
        np.testing.assert_allclose(frame.camera().lidar_from_camera, expected, atol=1e-6)


def test_a_file_of_extrinsics_counts_for_more_than_the_recording(tmp_path: Path) -> None:
    file, pose = tmp_path / "rig.yaml", lifted(0.7) @ LIDAR_FROM_CAMERA
    file.write_text(f"lidar_from_camera: {pose.tolist()}\n")
    for name, extra in (("with", [static(START_NS)]), ("without", [])):
        bag = write(tmp_path / name, [*extra, *scans(3), *camera(6)])
        extract([bag], tmp_path / f"{name}-out", ExtractConfig(extrinsics=(str(file),)))
        for frame in KittiDataset(tmp_path / f"{name}-out"):
            np.testing.assert_allclose(frame.camera().lidar_from_camera, pose, atol=1e-6)
