"""What a detector says about one image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import KITTI_LIDAR_HEIGHT
from kd3d_core.geometry.window import ImageWindow
from kd3d_core.models.card import ModelCard

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Detections:
    """Answer of `CameraDetector` for one image, in the detector frame.

    Attributes:
        points: `(N, 4)` float32 pseudo-LiDAR: x, y, z in metres, intensity in [0, 1]; all finite.
        boxes: `(M, 7)` float32, as in `kd3d_core.geometry.boxes`, best score first.
        scores: `(M,)` float32 in [0, 1].
        labels: `(M,)` int64, indices into the detector's `class_names`.
        depth: depth map in metres on the depth model's own grid; it stays on the device, so that
            only who looks at it pays for the copy. None where no depth model ran.
        window: which part of the image that grid shows.
        timings: milliseconds per stage, in the order in which the stages ran.
    """

    points: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    depth: "torch.Tensor | None" = None
    window: ImageWindow | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def has_points(self) -> bool:
        """Whether points are a part of the answer, be it that there are none: not without depth."""
        return self.depth is not None or len(self.points) > 0

    def depth_image(self, camera: PinholeCamera) -> np.ndarray | None:
        """`(H, W)` float32 metres along the optical axis, NaN where the depth model saw nothing.

        It is as large as the image of `camera`, rectified. None where no depth model ran.
        """
        if self.depth is None or self.window is None:
            return None
        depth = self.window.restored(self.depth[None], camera)[0].cpu().numpy()
        depth[depth <= 0] = np.nan
        return depth

    def between(self, nearest_m: float, farthest_m: float, camera: PinholeCamera) -> "Detections":
        """The same without points and boxes that are nearer or farther, on the ground.

        Args:
            nearest_m: from the camera.
            farthest_m: from the camera; 0: however far.
            camera: of the image.
        """
        if nearest_m <= 0 and farthest_m <= 0:
            return self
        place = camera.lidar_from_camera[:2, 3]
        near_points, near_boxes = (
            (distance >= nearest_m) & (distance < (farthest_m or np.inf))
            for distance in (
                np.hypot(*(rows[:, :2] - place).T) for rows in (self.points, self.boxes)
            )
        )
        return replace(
            self,
            points=self.points[near_points],
            boxes=self.boxes[near_boxes],
            scores=self.scores[near_boxes],
            labels=self.labels[near_boxes],
        )

    def without_ground(self, height_m: float) -> "Detections":
        """The same without points lower than this over the ground; 0: with all."""
        if height_m <= 0:
            return self
        return replace(self, points=self.points[self.points[:, 2] >= height_m - KITTI_LIDAR_HEIGHT])

    def above(self, thresholds: Sequence[float]) -> "Detections":
        """The same without boxes of a lower score; a threshold for each class of the detector."""
        keep = self.scores >= np.asarray(thresholds, self.scores.dtype)[self.labels]
        if keep.all():
            return self
        return replace(
            self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep]
        )


class Detector(Protocol):
    """What users need of `kd3d_core.runtime.pipeline.CameraDetector`."""

    class_names: tuple[str, ...]
    trained: bool
    description: str
    card: ModelCard
    sampling_ratio: float
    """Share of the depth map's pixels that become points; may be set between two images."""

    def __call__(self, image: np.ndarray, camera: PinholeCamera) -> Detections: ...

    def notices(self, camera: PinholeCamera) -> Mapping[str, str]:
        """How a camera differs from those of the training; see `camera_notices`."""
