"""How many points the detector makes of an image: as asked for, or fewer for lack of memory."""

import sys

import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.runtime.detections import Detections, Detector
from kd3d_ros.diagnostics import Complaints


class Sampling:
    """Runs a detector with a sampling ratio that may change from frame to frame.

    When CUDA runs out of memory, the ratio is halved once, and the frame tried again. If memory
    runs out later again, that frame fails, and the next one is tried as it is.
    """

    def __init__(self, detector: Detector, complaints: Complaints) -> None:
        """
        Args:
            detector: what to run.
            complaints: told when memory has run out.
        """
        self._detector = detector
        self._complaints = complaints
        self._of_model = detector.sampling_ratio
        self._wanted = 0.0
        self._is_reduced = False

    def detect(self, image: np.ndarray, camera: PinholeCamera, ratio: float) -> Detections:
        """What the detector says of an image.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            camera: of the image.
            ratio: share of the pixels that become points; 0: as the model has it.
        """
        if ratio != self._wanted:
            self._wanted, self._is_reduced = ratio, False
            self._detector.sampling_ratio = ratio or self._of_model
        try:
            return self._detector(image, camera)
        except Exception as error:
            if self._is_reduced or not _is_out_of_memory(error):
                raise
        # Outside of `except`: the error holds the frames of its trace, and what lies in them.
        _free_cached_memory()
        self._reduce()
        return self._detector(image, camera)

    def restore(self) -> None:
        """Leave the detector as it was."""
        self._detector.sampling_ratio = self._of_model

    def _reduce(self) -> None:
        self._is_reduced = True
        before = self._detector.sampling_ratio
        self._detector.sampling_ratio = before / 2
        self._complaints.notice(
            "out_of_memory",
            f"the GPU ran out of memory: sampling_ratio goes from {before:g} to {before / 2:g} "
            "until it is set or the node activated again; free memory, or take a smaller model",
        )


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch says so; without torch nothing does."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)


def _free_cached_memory() -> None:
    sys.modules["torch"].cuda.empty_cache()  # does nothing where there is no CUDA
