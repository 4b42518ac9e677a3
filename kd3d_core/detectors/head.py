"""The anchor head, for training in several processes."""

import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.registry import MODELS
from torch import distributed


@MODELS.register_module()
class SharedAnchorHead(Anchor3DHead):
    """mmdet3d's `Anchor3DHead`, whose losses count the positive anchors of all processes.

    Upstream divides by those of its own process, so that an object in an empty street would
    weigh more than one among many, depending on which frames share a process. The mean over
    processes instead gives the gradients of a single process that sees all of the frames.
    """

    def anchor_target_3d(self, *args, **kwargs):
        """Upstream's targets, the counts of anchors averaged over processes."""
        targets = super().anchor_target_3d(*args, **kwargs)
        if targets is None or not distributed.is_initialized():
            return targets
        *parts, positives, negatives = targets
        device = parts[0][0].device
        counts = torch.tensor([positives, negatives], dtype=torch.float32, device=device)
        distributed.all_reduce(counts)
        return (*parts, *(counts / distributed.get_world_size()))
