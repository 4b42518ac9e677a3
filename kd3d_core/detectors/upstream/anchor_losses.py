"""mmdet3d's losses of an anchor head."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.structures import LiDARInstance3DBoxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import distributed

from kd3d_core.detectors.anchors import ROTATIONS, Anchors
from kd3d_core.detectors.config import ClassLoss
from kd3d_core.detectors.decode import DIRECTION_OFFSET, HeadMaps
from kd3d_core.detectors.quality import quality_loss

_QUALITY_WEIGHT = 8.0
"""Of the quality focal loss, as CMKD's teachers have it."""
_LOSSES: dict[str, dict[str, Any]] = {
    "loss_cls": {"type": "mmdet.FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25},
    "loss_bbox": {"type": "mmdet.SmoothL1Loss", "beta": 1 / 9, "loss_weight": 2.0},
    "loss_dir": {"type": "mmdet.CrossEntropyLoss", "loss_weight": 0.2},
}
_NAMES = {"cls": "loss_cls", "box": "loss_bbox", "dir": "loss_dir"}


class AnchorLosses:
    """Focal loss of the classes, smooth L1 of the boxes, cross entropy of the headings.

    The quality focal loss takes the place of the first, if the head is one for it.
    """

    def __init__(
        self, anchors: Anchors, *, assign_per_class: bool, class_loss: ClassLoss = "focal"
    ) -> None:
        self._anchors, self._class_loss = anchors, class_loss
        low, high = anchors.point_cloud_range[:2], anchors.point_cloud_range[3:5]
        generator = "AlignedAnchor3DRangeGenerator" if anchors.centred else "Anchor3DRangeGenerator"
        assigners = [
            {
                "type": "Max3DIoUAssigner",
                "iou_calculator": {"type": "BboxOverlapsNearest3D"},
                "pos_iou_thr": kind.positive_iou,
                "neg_iou_thr": kind.negative_iou,
                "min_pos_iou": kind.negative_iou,
                "ignore_iof_thr": -1,
            }
            for kind in anchors.classes
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it announces changes of its own
            self._head = _LossHead(
                num_classes=len(anchors.classes),
                in_channels=0,
                anchor_generator={
                    "type": generator,
                    "ranges": [[*low, k.bottom, *high, k.bottom] for k in anchors.classes],
                    "sizes": [list(kind.size) for kind in anchors.classes],
                    "rotations": list(ROTATIONS),
                    "reshape_out": False,
                },
                assign_per_class=assign_per_class,
                dir_offset=DIRECTION_OFFSET,
                **_LOSSES,
                train_cfg=ConfigDict(assigner=assigners, pos_weight=-1),
            )

    def __call__(
        self, maps: HeadMaps, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """See `AnchorDetector.losses`."""
        truth = [
            InstanceData(bboxes_3d=LiDARInstance3DBoxes(box), labels_3d=label)
            for box, label in zip(boxes, labels, strict=True)
        ]
        by_quality = self._class_loss == "quality_focal"
        logits = maps.logits.detach() if by_quality else maps.logits
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls meshgrid without `indexing`
            losses = self._head.loss_by_feat(
                [logits], [maps.deltas], [maps.directions], truth, [{}] * len(truth)
            )
        named = {ours: sum(losses[theirs]) for ours, theirs in _NAMES.items()}
        if by_quality:
            named["cls"] = _QUALITY_WEIGHT * self._quality(maps, boxes, labels)
        return named

    def _quality(
        self, maps: HeadMaps, boxes: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        height, width = maps.logits.shape[-2:]
        anchors = self._anchors.boxes((height, width), maps.logits.device)
        return quality_loss(maps, anchors, boxes, labels, len(self._anchors.classes))


class _LossHead(Anchor3DHead):
    """mmdet3d's head without its layers, whose losses count the positive anchors of all processes.

    Upstream divides by those of its own process, so that an object in an empty street would
    weigh more than one among many, depending on which frames share a process. The mean over
    processes instead gives the gradients of a single process that sees all of the frames.
    """

    def _init_layers(self) -> None:
        self.cls_out_channels = self.num_anchors * self.num_classes

    def anchor_target_3d(self, *args: Any, **kwargs: Any) -> Any:
        """Upstream's targets, the counts of anchors averaged over processes."""
        targets = super().anchor_target_3d(*args, **kwargs)
        if targets is None or not distributed.is_initialized():
            return targets
        *parts, positives, negatives = targets
        device = parts[0][0].device
        counts = torch.tensor([positives, negatives], dtype=torch.float32, device=device)
        distributed.all_reduce(counts)
        return (*parts, *(counts / distributed.get_world_size()))
