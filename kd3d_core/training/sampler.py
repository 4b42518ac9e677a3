"""Which frame comes when: decided by seed, epoch and position alone, so that a run can go on."""

from collections.abc import Sequence

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


def mixed_batches(
    counts: Sequence[int],
    per_batch: Sequence[int],
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[int]]:
    """As `epoch_batches`, with so many frames `per_batch` of each of several sets.

    The frames of a set follow those of the one before; `counts` says how many it has. There are as
    many batches as the first set needs to be seen once; the others fill them, and begin again where
    they are too short.

    >>> mixed_batches([2, 3], [1, 1], seed=0, epoch=0)
    [[1, 3], [0, 4]]
    """
    sets = [
        epoch_batches(count, size, seed + which, epoch, rank, world_size)
        for which, (count, size) in enumerate(zip(counts, per_batch, strict=True))
    ]
    first = [sum(counts[:which]) for which in range(len(counts))]
    return [
        [
            start + index
            for start, part in zip(first, sets, strict=True)
            for index in part[step % len(part)]
        ]
        for step in range(len(sets[0]))
    ]
