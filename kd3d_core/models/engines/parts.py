"""The parts of a detector whose shapes are fixed: taken out to export, and put back as an engine's.

What lies between them stays in torch: points sorted into voxels, image features looked up at them,
decoding and suppression. The depth network is a part as it is.
"""

from collections.abc import Mapping

import torch
from torch import nn

from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.cmkd.student import CmkdDetector
from kd3d_core.detectors.fusion import PointFusion
from kd3d_core.detectors.head import AnchorHead
from kd3d_core.detectors.mvxnet import FusionDetector


class _ImageSide(nn.Module):
    """A normalised image to the maps that points look up."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, laterals: nn.ModuleList) -> None:
        super().__init__()
        self.backbone, self.neck, self.laterals = backbone, neck, laterals

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pyramid = self.neck(self.backbone(images))
        return tuple(conv(level) for conv, level in zip(self.laterals, pyramid, strict=True))


class _BirdsEyeView(nn.Module):
    """A bird's-eye view to the head's three maps."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, canvas: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (features,) = self.neck(self.backbone(canvas))
        return self.head(features)


class _Answered(AnchorHead):
    """A head whose three maps are there already."""

    def __init__(self, head: AnchorHead) -> None:
        nn.Module.__init__(self)
        self.anchors, self.assign_per_class = head.anchors, head.assign_per_class
        self.class_loss = head.class_loss

    def forward(self, *maps: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        return maps


def detector_parts(detector: AnchorDetector) -> dict[str, nn.Module]:
    """The parts of a detector by name, in the order in which they compute."""
    network = detector.network
    parts: dict[str, nn.Module] = {}
    if isinstance(detector, CmkdDetector):
        parts["image"] = network["image_side"]
        parts["collapse"] = nn.Sequential(network["collapse"], network["calibrated"])
    if isinstance(detector, FusionDetector):
        fusion = _fusion(detector)
        parts["image"] = _ImageSide(
            network["img_backbone"], network["img_neck"], fusion.lateral_convs
        )
    parts["bev"] = _BirdsEyeView(detector.backbone, detector.neck, detector.head)
    return parts


def put_detector_parts(detector: AnchorDetector, parts: Mapping[str, nn.Module]) -> None:
    """Let `parts` compute what those of `detector_parts` did, which leave the detector."""
    network, prefix = detector.network, detector.prefix
    if isinstance(detector, CmkdDetector):
        network["image_side"] = parts["image"]
        network["collapse"], network["calibrated"] = parts["collapse"], nn.Identity()
    if isinstance(detector, FusionDetector):
        network["img_backbone"], network["img_neck"] = parts["image"], nn.Identity()
        fusion = _fusion(detector)
        fusion.lateral_convs = nn.ModuleList(nn.Identity() for _ in fusion.lateral_convs)
    network[f"{prefix}bbox_head"] = _Answered(detector.head)
    network[f"{prefix}backbone"], network[f"{prefix}neck"] = parts["bev"], nn.Identity()


def _fusion(detector: FusionDetector) -> PointFusion:
    fusion = detector.network["pts_voxel_encoder"].fusion_layer
    assert isinstance(fusion, PointFusion)
    return fusion
