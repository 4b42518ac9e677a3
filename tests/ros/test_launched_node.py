"""The real node by its launch file, under launch_testing: where the package is installed."""

import time
import unittest

import pytest

pytest.importorskip("launch_testing", reason="launch_testing is on ROS machines only")
import launch_testing
import launch_testing.actions
import launch_testing.asserts
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from node_helpers import ROOT, Camera, Spinner, camera_info, image_message

from launch import LaunchDescription

LOADING_S = 120.0


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(ROOT / "launch" / "detector.launch.py")),
        launch_arguments={"image": "/image", "device": "cpu", "namespace": "/"}.items(),
    )
    return LaunchDescription([detector, launch_testing.actions.ReadyToTest()])


class TestWhileItRuns(unittest.TestCase):
    def test_an_image_is_answered(self) -> None:
        import rclpy

        rclpy.init()
        camera = Camera()
        with Spinner(camera) as spinner:
            spinner.until("the node subscribes", camera.is_connected, LOADING_S)
            deadline = time.monotonic() + LOADING_S
            while not camera.detections and time.monotonic() < deadline:
                camera.infos.publish(camera_info(640, 192, focal=372.0))
                camera.images.publish(image_message(_grey(640, 192)))
                spinner.during(1.0)
        rclpy.shutdown()
        assert camera.points
        assert camera.detections


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    def test_it_ends_well(self, proc_info) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)


def _grey(width: int, height: int):
    import numpy as np

    return np.full((height, width, 3), 90, np.uint8)
