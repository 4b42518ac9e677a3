"""A teaching assistant for students of CMKD: the student itself, with true depth."""

from typing import ClassVar

import torch
from torch.nn import functional

from kd3d_core.detectors.anchor_detector import BevInput, DetectorInput
from kd3d_core.detectors.cmkd.bins import UNKNOWN
from kd3d_core.detectors.cmkd.encoders import STRIDE
from kd3d_core.detectors.cmkd.student import CmkdDetector, cmkd_lite
from kd3d_core.detectors.config import DecodeConfig, ImageSideConfig, Range
from kd3d_core.detectors.second import KITTI_RANGE


class CmkdAssistant(CmkdDetector):
    """A student that is told where LiDAR saw each of its pixels (after MonoTAKD, Liu et al., 2025).

    Its features are those of an image, as the student's are, and lie where they belong: a student
    that learns from it has to learn depth, and nothing that only LiDAR sees. A cell in which LiDAR
    saw nothing is lifted nowhere. Its tensors are the student's, which may start from all of them.
    """

    reads_points: ClassVar[bool] = True

    def freeze_depth(self) -> None:
        """What would say depth learns nothing here."""
        self.image_side.depth.requires_grad_(False)

    def bev_input(self, frames: DetectorInput) -> BevInput:
        """The image, lifted to the points' depth."""
        features = self.image_side.features(frames.images)
        height, width = frames.images.shape[-2:]
        size = height // STRIDE, width // STRIDE
        depth = cell_depth(
            frames.points, frames.samples, frames.image_from_lidar, size, frames.valid
        )
        classes = self.bins.classes(depth)
        certain = functional.one_hot(classes.clamp(min=0), self.bins.count + 1)
        certain = certain * (classes != UNKNOWN)[..., None]
        likely = certain.permute(0, 3, 1, 2).float()
        voxels = self.voxels(features, likely, frames.image_from_lidar)
        return BevInput(self.bev(voxels))


def cell_depth(
    points: torch.Tensor,
    samples: torch.Tensor,
    image_from_lidar: torch.Tensor,
    size: tuple[int, int],
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """`(B, h, w)` metres: the nearest point in each cell of stride 8; 0 where there is none.

    >>> points = torch.tensor([[10.0, 0, 0, 0.5], [8.0, 0, 0, 0.5], [9.0, -30.0, 0, 0.5]])
    >>> camera = torch.tensor([[[8.0, -4, 0, 0], [4, 0, -4, 0], [1, 0, 0, 0]]])
    >>> cell_depth(points, torch.zeros(3, dtype=torch.int64), camera, (1, 2))
    tensor([[[0., 8.]]])

    Args:
        points: `(N, 4)` of all samples, detector frame.
        samples: `(N,)` int64, which sample each belongs to.
        image_from_lidar: `(B, 3, 4)` projections into the images.
        size: h and w.
        valid: `(N,)` points to use; None uses all.
    """
    height, width = size
    matrix = image_from_lidar[samples]
    u, v, depth = ((matrix[:, :, :3] @ points[:, :3, None])[..., 0] + matrix[:, :, 3]).unbind(1)
    ahead = depth > 0.1
    safe = torch.where(ahead, depth, 1.0)
    column, row = (((pixel / safe + 0.5) / STRIDE).floor() for pixel in (u, v))
    inside = ahead & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if valid is not None:
        inside = inside & valid
    count = len(image_from_lidar) * height * width
    flat = ((samples * height + row) * width + column).long()
    flat = torch.where(inside, flat, count)  # one cell more, for all that no cell shows
    nearest = depth.new_full((count + 1,), torch.inf)
    nearest = nearest.scatter_reduce(0, flat, depth, "amin")[:-1]
    return torch.where(nearest.isfinite(), nearest, 0).view(-1, height, width)


def cmkd_assistant_lite(
    decoding: DecodeConfig,
    image: ImageSideConfig,
    point_cloud_range: Range = KITTI_RANGE,
    cell: float = 0.4,
) -> CmkdDetector:
    """The assistant of `cmkd_lite`."""
    assistant = cmkd_lite(decoding, image, point_cloud_range, cell, CmkdAssistant)
    assert isinstance(assistant, CmkdAssistant)
    assistant.freeze_depth()
    return assistant


def cmkd_assistant_tiny(
    decoding: DecodeConfig, image: ImageSideConfig, point_cloud_range: Range = KITTI_RANGE
) -> CmkdDetector:
    """The assistant of `cmkd_tiny`."""
    return cmkd_assistant_lite(decoding, image, point_cloud_range, cell=0.8)
