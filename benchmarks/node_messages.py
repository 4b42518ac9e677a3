"""What benchmarks of the node share: messages at KITTI's size, and a detector of fixed speed."""

import array
import time
from dataclasses import replace

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.models.card import ModelCard
from kd3d_core.runtime.detections import Detections

WIDTH, HEIGHT, FOCAL = 1242, 375, 721.5


def camera_messages(width: int = WIDTH, height: int = HEIGHT) -> tuple[Image, CameraInfo]:
    """An image of noise, and its CameraInfo."""
    noise = np.random.default_rng(0).integers(0, 256, height * width * 3, np.uint8)
    data = array.array("B")
    data.frombytes(noise)  # type: ignore[arg-type]
    image = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)
    image.header.frame_id = "camera"
    info = CameraInfo(height=height, width=width)
    info.k = [FOCAL, 0.0, width / 2, 0.0, FOCAL, height / 2, 0.0, 0.0, 1.0]
    return image, info


class SteadyDetector:
    """Always the same answer, after the same time."""

    class_names = ("Car", "Pedestrian", "Cyclist")
    trained = True
    description = "a steady detector"
    card = ModelCard()
    sampling_ratio = 0.1

    def __init__(self, points: int, boxes: int, seconds: float = 0.0) -> None:
        self._seconds = seconds
        random = np.random.default_rng(0)
        self._answer = Detections(
            points=random.uniform(0, 1, (points, 4)).astype(np.float32),
            boxes=random.uniform(1, 5, (boxes, 7)).astype(np.float32),
            scores=np.linspace(1, 0, boxes, dtype=np.float32),
            labels=(np.arange(boxes) % 3).astype(np.int64),
        )

    def __call__(self, image: np.ndarray, camera: PinholeCamera) -> Detections:
        time.sleep(self._seconds)
        # New arrays, as a real detector's, which has just copied them from its device.
        return replace(self._answer, points=self._answer.points.copy())

    def notices(self, camera: PinholeCamera) -> dict[str, str]:
        return {}
