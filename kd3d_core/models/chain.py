"""Models at work: an image and its camera in, points, boxes and depth out.

Whoever runs a model (`CameraDetector`, the pseudo-LiDAR cache of a training run, `kd3d-eval depth`)
goes through these stages, so that all of them see the same window, depth and cloud. Images are
`(1, 3, H, W)` float32 RGB, 0 to 255, rectified, on the model's device; nothing here waits for it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch

from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.cmkd.encoders import STRIDE
from kd3d_core.detectors.cmkd.student import CmkdDetector
from kd3d_core.detectors.decode import BoxSlots
from kd3d_core.devices import FixedPrecision, autocast
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.points import matching
from kd3d_core.geometry.window import ImageWindow, WindowConfig
from kd3d_core.models.cloud import Mark, PseudoLidar
from kd3d_core.models.config import (
    CmkdModelConfig,
    ExportableConfig,
    LidarModelConfig,
    ModelConfig,
    PseudoLidarConfig,
    PseudoLidarModelConfig,
)
from kd3d_core.models.pseudo_lidar import pseudo_lidar


@dataclass(frozen=True)
class ModelOutput:
    """What a model says about one frame; all on its device.

    Attributes:
        points: `(N, 4)` float32 that the detector read, or that depth gives.
        valid: `(N,)` bool, the points to use.
        boxes: slots of one sample.
        depth: `(h, w)` float32 metres; None for a model without depth.
        distribution: `(bins + 1, h / 8, w / 8)` float32, how likely each bin of depth is and what
            is beyond them; None for a model that says a single depth, or none.
    """

    points: torch.Tensor
    valid: torch.Tensor
    boxes: BoxSlots
    depth: torch.Tensor | None = None
    distribution: torch.Tensor | None = None


@dataclass(frozen=True)
class ModelInput:
    """One frame; see `Model.__call__`."""

    image: torch.Tensor | None
    camera: PinholeCamera
    points: torch.Tensor | None
    mark: Mark


class Model(ABC):
    """All networks of a method, with the weights and settings of a configuration."""

    reads_image: bool
    """Whether it needs an image."""
    reads_points: bool
    """Whether it needs points of a true LiDAR."""
    depth_window: WindowConfig | None = None
    """What the network that says depth sees of the image; None without one."""
    cloud: PseudoLidarConfig
    """How depth becomes points; models that read true points have none."""

    def __init__(
        self, config: ModelConfig, detector: torch.nn.Module, precision: FixedPrecision
    ) -> None:
        self.config = config
        self.detector: Any = detector
        self.precision = precision

    @property
    def trained(self) -> bool:
        """False if any weights are random; then nothing it says means anything."""
        return "random" not in self.config.weights.values()

    @property
    @abstractmethod
    def description(self) -> str:
        """Networks and weights in a few words."""

    def __call__(
        self,
        image: torch.Tensor | None,
        camera: PinholeCamera,
        points: torch.Tensor | None = None,
        mark: Mark = lambda stage: None,
    ) -> ModelOutput:
        """What there is in one frame.

        Args:
            image: the frame's image; None only for models that read none.
            camera: of the image.
            points: `(N, 4)` true LiDAR, for models that read it.
            mark: see `Mark`.
        """
        return self.answer(ModelInput(image, camera, points, mark))

    @abstractmethod
    def answer(self, frame: ModelInput) -> ModelOutput:
        """What there is in one frame."""

    def _boxes(
        self,
        points: torch.Tensor,
        valid: torch.Tensor | None,
        image: torch.Tensor,
        camera: PinholeCamera,
    ) -> BoxSlots:
        """What the detector finds; `image` and `camera` are cut to its window."""
        projection = matching(camera.image_from_lidar, points)
        samples = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        with autocast(self.precision, points.device):
            maps = self.detector(points, samples, image, projection[None], valid)
        return self.detector.boxes(maps)


def _engine_of(config: ModelConfig) -> str:
    engine = config.engine if isinstance(config, ExportableConfig) else None
    return "" if engine is None else f", {engine.description}"


class PseudoLidarModel(Model):
    """Method A: a detector on an image and the pseudo-LiDAR of its depth."""

    reads_image = True
    reads_points = False

    def __init__(
        self, config: PseudoLidarModelConfig, pseudo_lidar: PseudoLidar, detector: AnchorDetector
    ) -> None:
        super().__init__(config, detector, pseudo_lidar.precision)
        self.pseudo_lidar = pseudo_lidar
        self.depth_window = pseudo_lidar.config.window  # `config` may leave it to the network
        self._window = config.detector.window

    @property
    def cloud(self) -> PseudoLidarConfig:
        """How depth becomes points."""
        return self.pseudo_lidar.settings

    @cloud.setter
    def cloud(self, settings: PseudoLidarConfig) -> None:
        self.pseudo_lidar.settings = settings

    @property
    def description(self) -> str:
        depth, detector = self.config.weights.values()
        return f"depth {depth}, {self.config.detector.type} {detector}{_engine_of(self.config)}"

    def answer(self, frame: ModelInput) -> ModelOutput:
        image, camera, mark = frame.image, frame.camera, frame.mark
        assert image is not None
        cloud = self.pseudo_lidar(image, camera, mark)
        window = self._window.window(camera)
        seen = cloud.image if window == cloud.window else window.extract(image)
        boxes = self._boxes(cloud.points, cloud.valid, seen, window.camera(camera))
        mark("detect")
        return ModelOutput(cloud.points, cloud.valid, boxes, cloud.depth)


class LidarModel(Model):
    """A detector on true LiDAR points, and on the image if it reads one."""

    reads_points = True

    def __init__(
        self, config: LidarModelConfig, detector: AnchorDetector, precision: FixedPrecision
    ) -> None:
        super().__init__(config, detector, precision)
        self.reads_image = detector.reads_image
        self._window = config.detector.window

    @property
    def description(self) -> str:
        image = " and image" if self.reads_image else ""
        return f"{self.config.detector.type} {self.config.detector.weights} on LiDAR{image}"

    def answer(self, frame: ModelInput) -> ModelOutput:
        points, camera = frame.points, frame.camera
        assert points is not None
        seen = points.new_zeros(1, 3, 1, 1)
        if self.reads_image:
            assert frame.image is not None
            window = self._window.window(camera)
            seen, camera = window.extract(frame.image), window.camera(camera)
        boxes = self._boxes(points, None, seen, camera)
        frame.mark("detect")
        valid = torch.ones(len(points), dtype=torch.bool, device=points.device)
        return ModelOutput(points, valid, boxes)


class CmkdModel(Model):
    """CMKD: a detector that lifts an image by the distribution over its depth."""

    reads_image = True
    reads_points = False
    detector: CmkdDetector

    def __init__(
        self, config: CmkdModelConfig, detector: CmkdDetector, precision: FixedPrecision
    ) -> None:
        super().__init__(config, detector, precision)
        self.depth_window = self._window = config.detector.window
        # What is beyond the bins lies on their far end, and becomes no point.
        farthest = min(config.pseudo_lidar.max_depth, detector.bins.high)
        self.cloud = replace(config.pseudo_lidar, max_depth=farthest)

    @property
    def description(self) -> str:
        detector = self.config.detector
        return f"{detector.type} {detector.weights}{_engine_of(self.config)}"

    def depth(
        self, image: torch.Tensor, camera: PinholeCamera
    ) -> tuple[torch.Tensor, torch.Tensor, ImageWindow]:
        """As `PseudoLidar.depth`, without detecting anything."""
        window = self._window.window(camera)
        seen = window.extract(image)
        with autocast(self.precision, image.device):
            _, logits = self.detector.image_side(seen)
        return self._expected(logits.softmax(1)), seen, window

    def answer(self, frame: ModelInput) -> ModelOutput:
        image, camera, mark = frame.image, frame.camera, frame.mark
        assert image is not None
        window = self._window.window(camera)
        seen, view = window.extract(image), window.camera(camera)
        nothing = seen.new_zeros(0, 4)
        owners = torch.zeros(0, dtype=torch.int64, device=seen.device)
        projection = matching(view.image_from_lidar, seen)
        with autocast(self.precision, seen.device):
            features = self.detector.forward_features(nothing, owners, seen, projection[None])
            maps = self.detector.head_maps(features.neck)
        boxes = self.detector.boxes(maps)
        mark("detect")
        assert features.depth_logits is not None
        distribution = features.depth_logits.softmax(1)
        depth = self._expected(distribution)
        points, valid = pseudo_lidar(depth, view, self.cloud, window.inside(camera))
        mark("points")
        return ModelOutput(points, valid, boxes, depth, distribution[0])

    def _expected(self, distribution: torch.Tensor) -> torch.Tensor:
        """`(h, w)` of the window: each cell's mean depth in all of its pixels.

        Between cells it isn't interpolated: there is nothing between object and background.
        """
        depth = self.detector.bins.expected(distribution)
        return depth[0].repeat_interleave(STRIDE, 0).repeat_interleave(STRIDE, 1)
