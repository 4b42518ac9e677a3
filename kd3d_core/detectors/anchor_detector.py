"""What detectors with anchors over a bird's-eye view share: the head's losses, anchors and boxes.

A detector is one of mmdet3d's networks from mmdet3d's own config, kept whole as `network` so that
its tensors have upstream's names; a subclass is the way through it, stage by stage.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmdet3d
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from kd3d_core.detectors.decode import BoxSlots, DecodeConfig, HeadMaps, decode
from kd3d_core.detectors.voxels import VoxelGrid

KITTI_CLASSES = ("Pedestrian", "Cyclist", "Car")
_LOSSES = {"cls": "cls", "box": "bbox", "dir": "dir"}


def upstream_config(name: str) -> ConfigDict:
    """The `model` of one of mmdet3d's own config files."""
    return Config.fromfile(Path(mmdet3d.__file__).parent / ".mim" / "configs" / name).model


@dataclass(frozen=True)
class BevFeatures:
    """What a detector's stages make of the bird's-eye view; rows are y, columns x, both rising.

    Attributes:
        voxels: `(B, C, y, x)`, one map: the encoded voxels, as the backbone reads them.
        backbone: `(B, C, h, w)` each, finest first.
        neck: `(B, C, h, w)` each, as the head reads them; one map in all designs here.
    """

    voxels: tuple[torch.Tensor, ...]
    backbone: tuple[torch.Tensor, ...]
    neck: tuple[torch.Tensor, ...]


class AnchorDetector(nn.Module, ABC):
    """Points, and for some types an image, to boxes.

    Attributes:
        network: mmdet3d's model.
        decoding: how the head's maps become boxes.
        grid: the voxels that the network reads.
    """

    reads_image = True
    """Whether images make a difference."""
    reads_points = True
    """Whether points make a difference."""

    def __init__(self, config: ConfigDict, decoding: DecodeConfig) -> None:
        super().__init__()
        self.decoding = decoding
        layer = config.data_preprocessor.voxel_layer
        self.grid = VoxelGrid(tuple(layer.voxel_size), tuple(layer.point_cloud_range))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mmdet3d announces changes of its own
            self.network = MODELS.build({**config, "data_preprocessor": None})
        self._anchors: dict[tuple, torch.Tensor] = {}

    @property
    @abstractmethod
    def head(self) -> Any:
        """The network's `Anchor3DHead`."""

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The network's bird's-eye-view backbone."""

    @property
    @abstractmethod
    def neck(self) -> nn.Module:
        """The network's bird's-eye-view neck."""

    @abstractmethod
    def bev_input(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None,
    ) -> torch.Tensor:
        """`(B, C, y, x)` bird's-eye view that the backbone reads; see `forward_features`."""

    def forward_features(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> BevFeatures:
        """The features of every stage before the head.

        Args:
            points: `(N, 4)` of all samples, detector frame.
            samples: `(N,)` int64, which sample each point belongs to.
            images: `(B, 3, H, W)` RGB, 0 to 255, cut to the detector's window.
            image_from_lidar: `(B, 3, 4)` projections into those images.
            valid: `(N,)` points to use; None uses all.
        """
        canvas = self.bev_input(points, samples, images, image_from_lidar, valid)
        scales = self.backbone(canvas)
        return BevFeatures((canvas,), tuple(scales), tuple(self.neck(scales)))

    def forward(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> HeadMaps:
        """The head's maps for a batch; see `forward_features`."""
        features = self.forward_features(points, samples, images, image_from_lidar, valid)
        return self.head_maps(features.neck)

    def head_maps(self, features: Sequence[torch.Tensor]) -> HeadMaps:
        """What the head says about the neck's features."""
        logits, deltas, directions = (level[0] for level in self.head(features))
        return HeadMaps(logits, deltas, directions)

    def boxes(self, maps: HeadMaps) -> BoxSlots:
        """The boxes that the head's maps stand for."""
        height, width = maps.logits.shape[-2:]
        return decode(
            maps,
            self.anchors((height, width), maps.logits.device),
            self.head.num_classes,
            self.decoding,
            self.head.dir_offset,
            self.head.dir_limit_offset,
        )

    def losses(
        self, maps: HeadMaps, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """mmdet3d's losses of the head: `cls`, `box` and `dir`.

        Args:
            maps: the head's answers.
            boxes: `(M_b, 7)` true boxes of each sample.
            labels: `(M_b,)` int64 of each sample.
        """
        truth = [
            InstanceData(bboxes_3d=LiDARInstance3DBoxes(box), labels_3d=label)
            for box, label in zip(boxes, labels, strict=True)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls meshgrid without `indexing`
            losses = self.head.loss_by_feat(
                [maps.logits], [maps.deltas], [maps.directions], truth, [{}] * len(truth)
            )
        return {name: sum(losses[f"loss_{key}"]) for name, key in _LOSSES.items()}

    @torch.inference_mode(False)  # what is kept must serve training as well
    def anchors(self, size: tuple[int, int], device: torch.device) -> torch.Tensor:
        """`(h * w * A, 7)` anchors of a BEV grid of `size`; made once per size and device."""
        key = (size, device)
        if key not in self._anchors:
            generator = self.head.prior_generator
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it calls meshgrid without `indexing`
                (anchors,) = generator.grid_anchors([size], device=device)
            self._anchors[key] = anchors.reshape(-1, 7)
        return self._anchors[key]
