"""Mono3dDetector: a network of mmdet3d between our images, cameras and boxes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd3d_core.classes import KITTI_CLASSES
from kd3d_core.detectors.checkpoint import load_tensors
from kd3d_core.detectors.decode import BoxSlots
from kd3d_core.detectors.mono3d.config import Mono3dConfig, Mono3dType
from kd3d_core.detectors.mono3d.design import Mono3dDesign
from kd3d_core.detectors.mono3d.fcos3d import fcos3d
from kd3d_core.detectors.mono3d.images import prepare
from kd3d_core.detectors.mono3d.imvoxelnet import imvoxelnet
from kd3d_core.detectors.mono3d.pgd import pgd
from kd3d_core.detectors.mono3d.smoke import smoke
from kd3d_core.geometry.boxes import from_kitti
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.weights.tensors import read_tensors

_DESIGNS: dict[Mono3dType, Callable[[], Mono3dDesign]] = {
    "smoke": smoke,
    "pgd": pgd,
    "fcos3d": fcos3d,
    "imvoxelnet": imvoxelnet,
}


class Mono3dDetector(nn.Module):
    """One image to boxes, in single precision, with mmdet3d's own network, decoding and NMS.

    Attributes:
        design: what it is made of.
        network: mmdet3d's, whose tensors have the names of its checkpoints.
    """

    def __init__(self, design: Mono3dDesign) -> None:
        from kd3d_core.detectors.upstream.mono3d import build  # mmdet3d takes seconds

        super().__init__()
        self.design = design
        self.network: Any = build(design.network)
        self._label_of = [
            -1 if name is None else KITTI_CLASSES.index(name) for name in design.classes
        ]

    @torch.no_grad()
    def forward(self, image: torch.Tensor, camera: PinholeCamera) -> BoxSlots:
        """The boxes in an image `(1, 3, H, W)` float32 RGB, 0 to 255.

        How many there are, the host has to know: mmdet3d's NMS asks for it.
        """
        from kd3d_core.detectors.upstream.mono3d import predict

        boxes, scores, labels = predict(self.network, *prepare(image, camera, self.design.image))
        labels = torch.tensor(self._label_of)[labels]
        known = (labels >= 0) & boxes.isfinite().all(1)
        order = scores[known].argsort(descending=True, stable=True)
        boxes, scores, labels = (each[known][order] for each in (boxes, scores, labels))
        if not self.in_detector_frame:
            height_width_length = boxes[:, [4, 5, 3]]
            turned = from_kitti(
                boxes[:, :3], height_width_length, boxes[:, 6], camera.lidar_from_camera
            )
            boxes = torch.from_numpy(turned)
        slots = boxes[None], scores[None], labels[None], torch.ones(1, len(boxes), dtype=torch.bool)
        return BoxSlots(*(each.to(image.device) for each in slots))

    @property
    def in_detector_frame(self) -> bool:
        """Whether the network's boxes are in the detector frame already, not in the camera's."""
        return self.design.network.get("coord_type") == "LIDAR"


def make_mono3d(config: Mono3dConfig, weights: Path | None, seed: int) -> Mono3dDetector:
    """The detector of a configuration, in eval mode.

    Args:
        config: which one.
        weights: file of its weights; without one they are drawn from `seed`, and boxes mean
            nothing.

    Raises:
        WeightsError: the file can't be read, or its tensors aren't the network's.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        detector = Mono3dDetector(_DESIGNS[config.type]())
    if weights is not None:
        load_tensors(detector.network, read_tensors(weights), weights)
    return detector.eval()
