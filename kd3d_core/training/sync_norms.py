"""Batch norms over the frames of all processes.

With these, N processes of B frames each compute what a single one with N * B frames would.
"""

import torch
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce  # differentiable
from torch.nn.modules.batchnorm import _BatchNorm


def share_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """The same model, changed, with batch norms that take their statistics from all processes.

    Names and tensors stay as they are. Norms in eval mode go on using what they have learnt.
    `device` is where it will be trained.
    """
    if device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            module.__class__ = SharedBatchNorm
    return model


class SharedBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` for CPUs, which torch's own refuses."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`(N, C, ...)`, of any N in each process, normalised over all but C."""
        if not (self.training and distributed.is_initialized()):
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [axis for axis in range(values.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(values.ndim)]
        local = values.new_tensor([values.numel() // values.shape[1]])
        sums = all_reduce(torch.cat([values.sum(axes), local]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        answer = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            answer = answer * self.weight.view(shape) + self.bias.view(shape)
        return answer.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
