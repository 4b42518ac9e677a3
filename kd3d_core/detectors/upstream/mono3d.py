"""mmdet3d's detectors on one image: built from settings, and asked for boxes."""

from typing import Any

import mmdet3d.models  # noqa: F401  (registers the networks)
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import (
    Box3DMode,
    CameraInstance3DBoxes,
    Det3DDataSample,
    LiDARInstance3DBoxes,
)
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from torch import nn

# Heads want them even where nothing learns; that of the classes says that scores are sigmoids.
_LOSSES = {
    "loss_cls": {"type": "mmdet.FocalLoss", "use_sigmoid": True},
    "loss_bbox": {"type": "mmdet.SmoothL1Loss"},
    "loss_dir": {"type": "mmdet.CrossEntropyLoss"},
}


def build(settings: dict[str, Any]) -> nn.Module:
    """A network of mmdet3d; its weights are as its layers draw them."""
    init_default_scope("mmdet3d")
    return MODELS.build(ConfigDict(settings, bbox_head={**_LOSSES, **settings["bbox_head"]}))


def predict(
    network: Any, images: torch.Tensor, about: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes `(N, 7)`, scores and labels on the host, in the frame and with the classes it has.

    Boxes are x, y, z of the bottom centre, length, then height and width for those in the camera
    frame, width and height for those in the LiDAR's, and the heading.
    """
    lidar = getattr(network, "coord_type", "CAMERA") == "LIDAR"
    sample = Det3DDataSample(
        metainfo={
            **about,
            "box_type_3d": LiDARInstance3DBoxes if lidar else CameraInstance3DBoxes,
            "box_mode_3d": Box3DMode.LIDAR if lidar else Box3DMode.CAM,
        }
    )
    (answer,) = network.predict({"imgs": images}, [sample])
    found = answer.pred_instances_3d
    boxes, scores, labels = (
        each.cpu() for each in (found.bboxes_3d.tensor, found.scores_3d, found.labels_3d)
    )
    return boxes[:, :7], scores, labels
