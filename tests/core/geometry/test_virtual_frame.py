"""The virtual LiDAR frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT, virtual_lidar_from_camera


@given(st.floats(0.1, 5))
def test_the_ground_lies_as_low_in_the_virtual_frame_as_in_kittis(camera_height: float) -> None:
    lidar_from_camera = virtual_lidar_from_camera(camera_height)
    on_ground = lidar_from_camera @ [0, camera_height, 10, 1]  # y is down
    np.testing.assert_allclose(on_ground, [10, 0, -KITTI_LIDAR_HEIGHT, 1], atol=1e-9)
    to_the_right = lidar_from_camera @ [2, 0, 10, 1]
    assert to_the_right[1] == pytest.approx(-2)  # y is left


@pytest.mark.parametrize("height", [0, -1, np.nan, np.inf, 1650])
def test_impossible_camera_heights(height: float) -> None:
    with pytest.raises(CalibrationError, match="camera_height"):
        virtual_lidar_from_camera(height)
