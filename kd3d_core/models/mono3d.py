"""Models of others on one image, beside which ours are seen: SMOKE, PGD, FCOS3D, ImVoxelNet."""

import torch

from kd3d_core.detectors.mono3d.detector import Mono3dDetector
from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError
from kd3d_core.models.chain import Model, ModelInput, ModelOutput
from kd3d_core.models.config import Mono3dModelConfig, PseudoLidarConfig


class Mono3dModel(Model):
    """An image and its camera to boxes, without depth and points."""

    reads_image = True
    reads_points = False

    def __init__(
        self, config: Mono3dModelConfig, detector: Mono3dDetector, precision: Precision
    ) -> None:
        """`ConfigError` if another precision is asked for than that which mmdet3d runs them in."""
        if precision not in ("auto", "fp32"):
            raise ConfigError(
                f"precision {precision}: {config.detector.type} computes in fp32, as mmdet3d "
                "evaluates it: use auto or fp32"
            )
        super().__init__(config, detector, "fp32")
        self.cloud = PseudoLidarConfig()  # of no depth, so that it makes no point

    @property
    def description(self) -> str:
        return f"{self.config.detector.type} {self.config.detector.weights}"

    def answer(self, frame: ModelInput) -> ModelOutput:
        assert frame.image is not None
        boxes = self.detector(frame.image, frame.camera)
        frame.mark("detect")
        nothing = frame.image.new_zeros(0, 4)
        return ModelOutput(nothing, nothing.new_zeros(0, dtype=torch.bool), boxes)
