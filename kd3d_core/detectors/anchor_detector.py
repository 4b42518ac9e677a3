"""What detectors with anchors over a bird's-eye view share: stages, head, boxes and losses.

A detector is a chain of named parts, written out in its own file (`lite.py`, `mvxnet.py`, ...). The
parts are kept in `network` under mmdet3d's names, so that its checkpoints load, and are made in its
order, so that a seed means the same weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.detectors.decode import BoxSlots, HeadMaps, decode
from kd3d_core.detectors.voxels import VoxelGrid


@dataclass(frozen=True)
class DetectorInput:
    """What a detector reads.

    Attributes:
        points: `(N, 4)` of all samples, detector frame.
        samples: `(N,)` int64, which sample each point belongs to.
        images: `(B, 3, H, W)` RGB, 0 to 255, cut to the detector's window.
        image_from_lidar: `(B, 3, 4)` projections into those images.
        valid: `(N,)` points to use; None uses all.
    """

    points: torch.Tensor
    samples: torch.Tensor
    images: torch.Tensor
    image_from_lidar: torch.Tensor
    valid: torch.Tensor | None = None


@dataclass(frozen=True)
class BevInput:
    """What the backbone of the bird's-eye view reads, and what was found on the way to it.

    Attributes:
        canvas: `(B, C, y, x)`.
        filled: `(B, 1, y, x)` bool, the cells with points; None if it is those that aren't 0.
        depth_logits: `(B, bins + 1, h, w)` float32 over the image, of a detector that says depth.
    """

    canvas: torch.Tensor
    filled: torch.Tensor | None = None
    depth_logits: torch.Tensor | None = None


@dataclass(frozen=True)
class BevFeatures:
    """What a detector's stages make of the bird's-eye view; rows are y, columns x, both rising.

    Attributes:
        voxels: `(B, C, y, x)`, one map: the encoded voxels, as the backbone reads them.
        backbone: `(B, C, h, w)` each, finest first.
        neck: `(B, C, h, w)` each, as the head reads them; one map in all designs here.
        filled, depth_logits: see `BevInput`.
    """

    voxels: tuple[torch.Tensor, ...]
    backbone: tuple[torch.Tensor, ...]
    neck: tuple[torch.Tensor, ...]
    filled: torch.Tensor | None = None
    depth_logits: torch.Tensor | None = None


class AnchorDetector(nn.Module, ABC):
    """Points, and for some types an image, to boxes.

    Attributes:
        reads_image: the image makes a difference.
        reads_points: the points make a difference.
        network: the parts by mmdet3d's names.
        decoding: how the head's maps become boxes.
        grid: the voxels that the network reads.
    """

    reads_image: ClassVar[bool]
    reads_points: ClassVar[bool] = True
    prefix: ClassVar[str] = ""
    """Of the names of the parts that see the bird's-eye view."""

    def __init__(
        self, grid: VoxelGrid, decoding: DecodeConfig, network: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.grid, self.decoding = grid, decoding
        self.network = nn.ModuleDict(network)
        self._anchors: dict[tuple, torch.Tensor] = {}
        self._losses: Callable[..., dict[str, torch.Tensor]] | None = None

    @property
    def backbone(self) -> nn.Module:
        """The bird's-eye-view backbone."""
        return self.network[f"{self.prefix}backbone"]

    @property
    def neck(self) -> nn.Module:
        """The bird's-eye-view neck."""
        return self.network[f"{self.prefix}neck"]

    @property
    def head(self) -> Any:
        """The `AnchorHead`."""
        return self.network[f"{self.prefix}bbox_head"]

    def init_weights(self) -> None:
        """Draw the weights that training from nothing starts with.

        Parts without a wish of their own keep what they were made with, as upstream's do.
        """
        part: Any
        for part in self.network.values():
            if hasattr(part, "init_weights"):
                part.init_weights()

    def start_image_side(self, weights: str) -> None:
        """Fill what reads the image with published weights; see `ImageSideConfig`.

        Raises:
            WeightsError: they aren't here, or are of another network.
        """
        raise NotImplementedError

    @abstractmethod
    def bev_input(self, frames: DetectorInput) -> BevInput:
        """The bird's-eye view that the backbone reads."""

    def empty_canvas(self) -> torch.Tensor | None:
        """`(1, C, y, x)` of a street without points; None if it is all 0."""
        return None

    def forward_features(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> BevFeatures:
        """The features of every stage before the head; see `DetectorInput`."""
        frames = DetectorInput(points, samples, images, image_from_lidar, valid)
        return self.behind(self.bev_input(frames))

    def behind(self, seen: BevInput) -> BevFeatures:
        """The features of backbone and neck, and the bird's-eye view that they are made of."""
        scales = self.backbone(seen.canvas)
        return BevFeatures(
            (seen.canvas,),
            tuple(scales),
            tuple(self.neck(scales)),
            seen.filled,
            seen.depth_logits,
        )

    def forward(
        self,
        points: torch.Tensor,
        samples: torch.Tensor,
        images: torch.Tensor,
        image_from_lidar: torch.Tensor,
        valid: torch.Tensor | None = None,
    ) -> HeadMaps:
        """The head's maps for a batch; see `DetectorInput`."""
        features = self.forward_features(points, samples, images, image_from_lidar, valid)
        return self.head_maps(features.neck)

    def head_maps(self, features: Sequence[torch.Tensor]) -> HeadMaps:
        """What the head says about the neck's features."""
        return HeadMaps(*self.head(*features))

    def boxes(self, maps: HeadMaps) -> BoxSlots:
        """The boxes that the head's maps stand for."""
        height, width = maps.logits.shape[-2:]
        anchors = self.anchors((height, width), maps.logits.device)
        return decode(maps, anchors, self.head.num_classes, self.decoding)

    def losses(
        self, maps: HeadMaps, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The head's losses: `cls`, `box` and `dir`. The first call imports mmdet3d.

        Args:
            maps: the head's answers.
            boxes: `(M_b, 7)` true boxes of each sample.
            labels: `(M_b,)` int64 of each sample.
        """
        if self._losses is None:
            from kd3d_core.detectors.upstream.anchor_losses import AnchorLosses

            head = self.head
            self._losses = AnchorLosses(
                head.anchors, assign_per_class=head.assign_per_class, class_loss=head.class_loss
            )
        return self._losses(maps, boxes, labels)

    @torch.inference_mode(False)  # what is kept must serve training as well
    def anchors(self, size: tuple[int, int], device: torch.device) -> torch.Tensor:
        """`(h * w * A, 7)` anchors of a BEV grid of `size`; made once per size and device."""
        key = (size, device)
        if key not in self._anchors:
            self._anchors[key] = self.head.anchors.boxes(size, device)
        return self._anchors[key]
