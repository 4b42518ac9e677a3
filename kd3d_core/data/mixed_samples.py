"""Several sets of samples as one, each with its share of every epoch and batch."""

import logging
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from kd3d_core.data.batch import Sample
from kd3d_core.data.samples import FrameSamples

log = logging.getLogger(__name__)


class MixedSamples(Dataset):
    """Several sets of samples as one, each with a fixed share of every epoch.

    A set that gives fewer samples than it has gives others in the next epoch, and begins again, in
    another order and with other augmentations, when all of it was seen.

    Attributes:
        counts: how many samples of each set an epoch has, those of the first set first.
        per_batch: how many of each set a batch of one process has; None leaves it to chance.
    """

    def __init__(
        self,
        sets: Sequence[FrameSamples],
        counts: Sequence[int],
        seed: int,
        per_batch: Sequence[int] | None = None,
    ) -> None:
        """See the attributes; `seed` draws the order of each set."""
        self._sets = sets
        self.counts = tuple(counts)
        self.per_batch = None if per_batch is None else tuple(per_batch)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other samples and augmentations from now on."""
        self._epoch = epoch
        for samples in self._sets:
            samples.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(self.counts)

    def __getitem__(self, index: int) -> Sample:
        which = 0
        while index >= self.counts[which]:
            index -= self.counts[which]
            which += 1
        size = len(self._sets[which])
        passes, place = divmod(self._epoch * self.counts[which] + index, size)
        order = np.random.default_rng((self._seed, which, passes)).permutation(size)
        return self._sets[which].sample(int(order[place]), passes)


def mixed(
    sets: Sequence[FrameSamples],
    shares: Sequence[float],
    seed: int,
    per_batch: Sequence[int] | None = None,
) -> FrameSamples | MixedSamples:
    """The samples of all sets as one; of the first, each epoch sees all frames.

    `shares` says which share of all samples of an epoch comes from each of the others, `per_batch`
    how many of each set every batch has, if it isn't left to chance.
    """
    main, *others = sets
    if not others:
        return main
    total = len(main) / (1 - sum(shares))
    counts = [len(main), *(max(1, round(share * total)) for share in shares)]
    text = ", ".join(
        f"{count} of {len(part)} in {part.frames.root}"
        for count, part in zip(counts, sets, strict=True)
    )
    log.info("frames in each epoch: %s", text)
    return MixedSamples(sets, counts, seed, per_batch)
