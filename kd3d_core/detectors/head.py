"""The anchor head: upstream's parameters and losses, faster, and for several processes."""

import torch
from mmdet3d.models.dense_heads import Anchor3DHead
from mmdet3d.registry import MODELS
from torch import Tensor, distributed
from torch.nn import functional


@MODELS.register_module()
class SharedAnchorHead(Anchor3DHead):
    """mmdet3d's `Anchor3DHead`, whose losses count the positive anchors of all processes.

    Upstream divides by those of its own process, so that an object in an empty street would
    weigh more than one among many, depending on which frames share a process. The mean over
    processes instead gives the gradients of a single process that sees all of the frames.
    """

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class logits, box deltas and heading logits of a map `(B, C, h, w)`.

        Upstream's three 1x1 convolutions as one, so that the map is read and its gradient written
        once.
        """
        layers = (self.conv_cls, self.conv_reg, self.conv_dir_cls)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        answers = functional.conv2d(x, weight, bias)
        logits, deltas, directions = answers.split([len(layer.bias) for layer in layers], dim=1)
        return logits, deltas, directions

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
