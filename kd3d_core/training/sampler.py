"""Which frame comes when: decided by seed, epoch and position alone, so that a run can go on."""

import torch


def epoch_batches(
    count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """The batches of frames' indices of one process, number `rank`, in one epoch.

    All processes together see every frame once, in one shuffled order; the first frames are seen
    again where the last batch would be short. The batches of all processes at a step make up what
    a single process with a `world_size` times larger batch would see.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)
    together = batch_size * world_size
    steps = -(-count // together)
    order = order.repeat(-(-steps * together // count))[: steps * together]
    return order.view(steps, world_size, batch_size)[:, rank].tolist()
