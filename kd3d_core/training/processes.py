"""The processes that train together, of which this is one."""

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """This process, with its device, among those that train together; finds them when asked."""
    return PartialState(cpu=on_cpu())


def on_cpu() -> bool:
    """Whether there is no GPU.

    Without being told, accelerate lets the processes of `torchrun` on a machine without a GPU each
    train alone.
    """
    return not torch.accelerator.is_available()


def leave_group() -> None:
    """End the connections to the other processes: with them open, one may abort as it exits."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
