"""The virtual LiDAR frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.virtual_frame import (
    KITTI_LIDAR_HEIGHT,
    camera_pitch_deg,
    virtual_lidar_from_camera,
)


@given(st.floats(0.1, 5))
def test_the_ground_lies_as_low_in_the_virtual_frame_as_in_kittis(camera_height: float) -> None:
    lidar_from_camera = virtual_lidar_from_camera(camera_height)
    on_ground = lidar_from_camera @ [0, camera_height, 10, 1]  # y is down
    np.testing.assert_allclose(on_ground, [10, 0, -KITTI_LIDAR_HEIGHT, 1], atol=1e-9)
    to_the_right = lidar_from_camera @ [2, 0, 10, 1]
    assert to_the_right[1] == pytest.approx(-2)  # y is left


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (5, 0), (-12, 0), (4, 7), (-3, -20)])
def test_a_camera_that_looks_down_and_is_turned(pitch: float, roll: float) -> None:
    pose = virtual_lidar_from_camera(1.2, pitch, roll)
    assert pose[2, 3] == pytest.approx(1.2 - KITTI_LIDAR_HEIGHT)
    ahead, right = pose[:3, 2], pose[:3, 0]
    assert np.degrees(np.arcsin(-ahead[2])) == pytest.approx(pitch)
    assert camera_pitch_deg(pose) == pytest.approx(pitch)
    assert ahead[1] == pytest.approx(0)  # straight ahead
    lower = np.degrees(np.arcsin(-right[2]))
    assert np.sin(np.radians(lower)) == pytest.approx(
        np.sin(np.radians(roll)) * np.cos(np.radians(pitch))
    )
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("angle", [60, -90, np.nan])
def test_impossible_angles(angle: float) -> None:
    with pytest.raises(CalibrationError, match="pitch is"):
        virtual_lidar_from_camera(1.65, angle)
    with pytest.raises(CalibrationError, match="roll is"):
        virtual_lidar_from_camera(1.65, 0, angle)


@pytest.mark.parametrize("height", [0, -1, np.nan, np.inf, 1650])
def test_impossible_camera_heights(height: float) -> None:
    with pytest.raises(CalibrationError, match="camera_height"):
        virtual_lidar_from_camera(height)
