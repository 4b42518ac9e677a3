"""Which frame comes when: decided by seed, epoch and position alone, so that a run can go on."""

import torch


def epoch_batches(
    count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """The batches of one process in one epoch.

    All processes together see every frame once, in one shuffled order; the first frames are seen
    again where the last batch would be short. The batches of all processes at a step make up what
    a single process with a `world_size` times larger batch would see.

    Args:
        count: number of frames.
        batch_size: frames per batch of one process.
        seed: of the run.
        epoch: number of the epoch.
        rank: number of this process.
        world_size: number of processes.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=generator)
    together = batch_size * world_size
    steps = -(-count // together)
    order = order.repeat(-(-steps * together // count))[: steps * together]
    return order.view(steps, world_size, batch_size)[:, rank].tolist()
