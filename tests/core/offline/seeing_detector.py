"""A detector that is quick and depends on what it sees, and pictures for it to see."""

from collections.abc import Callable

import numpy as np

from kd3d_core.errors import ImageError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.models.card import ModelCard
from kd3d_core.runtime.detections import Detections

Run = Callable[[str], int]
"""`kd3d-detect` with these words on its command line, to its exit status."""

YAML = """\
image_width: 126
image_height: 44
camera_name: front
camera_matrix: {rows: 3, cols: 3, data: [70, 0, 60, 0, 71, 20, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0.001, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [60, 0, 62, 0, 0, 60, 21, 0, 0, 0, 1, 0]}
"""
"""A camera of 126 x 44 pixels, as ROS keeps it in a file."""


class SeeingDetector:
    """Puts a car as far away as the image is bright, and counts its calls.

    Attributes:
        calls: first pixels of the images that it has seen.
        before: called before each answer; may raise.
    """

    class_names = ("Pedestrian", "Cyclist", "Car")
    trained = True
    description = "a detector for tests"
    card = ModelCard()

    def __init__(self, before: Callable[[np.ndarray], object] = lambda image: None) -> None:
        self.calls: list[int] = []
        self.before = before

    def notices(self, camera: PinholeCamera) -> dict[str, str]:
        """Says that any camera is at another height."""
        return {"camera_height": "the camera is 9 m over the ground"}

    def __call__(self, image: np.ndarray, camera: PinholeCamera) -> Detections:
        height, width = image.shape[:2]
        if (height, width) != (camera.height, camera.width):
            raise ImageError(f"the image is {width} x {height}, its camera isn't")
        self.before(image)
        self.calls.append(int(image[0, 0, 0]))
        x = 10 + float(image.mean()) / 10
        boxes = np.array([[x, 0, -1.7, 4, 1.6, 1.5, 0.1], [x, 5, -1.7, 0.8, 0.6, 1.8, 0]])
        points = np.column_stack([np.full(5, x), np.arange(5), np.zeros(5), np.full(5, 0.5)])
        return Detections(
            points.astype(np.float32),
            boxes.astype(np.float32),
            np.array([0.9, 0.4], np.float32),
            np.array([2, 0]),
            timings={"depth": 3.0, "detect": 2.0},
        )


def picture(brightness: int, width: int = 126, height: int = 44) -> np.ndarray:
    """A grey image whose brightness tells it from others, with some structure."""
    ramp = np.linspace(0, 20, width).astype(np.uint8)
    return np.repeat(np.tile(ramp + brightness, (height, 1))[..., None], 3, -1).astype(np.uint8)
