"""Rectifies a recording's images."""

from dataclasses import replace

import cv2
import numpy as np

from kd3d_core.geometry.camera import PinholeCamera, rectification_grid

# A recording has a few calibrations; a map has 6 bytes per pixel.
_MOST_MAPS = 4


class Rectifier:
    """Rectifies images; the maps of a calibration are made once, and kept while they are few."""

    def __init__(self) -> None:
        self._maps: dict[object, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(
        self, image: np.ndarray, camera: PinholeCamera
    ) -> tuple[np.ndarray, PinholeCamera]:
        """The rectified image `(H, W, 3)` and its camera; both as they are if they are already.

        What the raw image doesn't show is black.

        Args:
            image: `(H, W, 3)` uint8, of the camera's size.
            camera: with the distortion of its raw images, if these are.
        """
        if camera.distortion is None:
            return image, camera
        maps = self._maps_of(camera)
        return cv2.remap(image, *maps, cv2.INTER_LINEAR), replace(camera, distortion=None)

    def _maps_of(self, camera: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
        lens = camera.distortion
        assert lens is not None
        arrays = (camera.projection, lens.coefficients, lens.intrinsics, lens.rectified_from_raw)
        key = (camera.width, camera.height, lens.model, *(array.tobytes() for array in arrays))
        if key not in self._maps:
            if len(self._maps) == _MOST_MAPS:
                self._maps.pop(next(iter(self._maps)))
            last = np.array([camera.width - 1, camera.height - 1], np.float32)
            places = (rectification_grid(camera) + 1) / 2 * last
            columns, rows = np.ascontiguousarray(places.transpose(2, 0, 1), np.float32)
            self._maps[key] = cv2.convertMaps(columns, rows, cv2.CV_16SC2)
        return self._maps[key]
