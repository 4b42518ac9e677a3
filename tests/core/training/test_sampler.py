"""The order of frames over epochs and processes."""

import pytest
import torch

from kd3d_core.training.sampler import epoch_batches, mixed_batches


@pytest.mark.parametrize(("count", "batch_size", "world"), [(31, 2, 1), (31, 4, 2), (3, 2, 4)])
def test_every_frame_is_seen_once_and_few_twice(count, batch_size, world):
    ranks = [epoch_batches(count, batch_size, 0, 5, rank, world) for rank in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen = [frame for batches in ranks for batch in batches for frame in batch]
    assert set(seen) == set(range(count))
    assert len(seen) < count + batch_size * world
    assert all(len(batch) == batch_size for batches in ranks for batch in batches)


def test_processes_together_see_what_one_with_a_larger_batch_sees():
    alone = epoch_batches(40, 6, 3, 2)
    shared = [epoch_batches(40, 3, 3, 2, rank, 2) for rank in range(2)]
    assert [a + b for a, b in zip(*shared, strict=True)] == alone


def test_epochs_and_seeds_differ_and_repeat():
    assert epoch_batches(31, 2, 0, 0) == epoch_batches(31, 2, 0, 0)
    assert epoch_batches(31, 2, 0, 0) != epoch_batches(31, 2, 0, 1)
    assert epoch_batches(31, 2, 0, 0) != epoch_batches(31, 2, 1, 0)


def test_a_run_of_an_older_version_goes_on_in_its_order():
    before = torch.get_rng_state()
    assert epoch_batches(7, 2, seed=3, epoch=4) == [[2, 0], [6, 3], [1, 4], [5, 2]]
    assert torch.equal(torch.get_rng_state(), before)
    assert len({str(epoch_batches(50, 5, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("world", [1, 2])
def test_every_batch_has_its_share_of_each_set(world):
    counts, per_batch = (10, 31, 3), (1, 3, 1)
    ranks = [mixed_batches(counts, per_batch, 0, 2, rank, world) for rank in range(world)]
    seen = [batch for batches in ranks for batch in batches]
    assert len(seen) == 10
    for batch in seen:
        assert [sum(a <= i < b for i in batch) for a, b in ((0, 10), (10, 41), (41, 44))] == [
            1,
            3,
            1,
        ]
    frames = [index for batch in seen for index in batch]
    assert sorted(index for index in frames if index < 10) == list(range(10))
    assert len({index for index in frames if 10 <= index < 41}) == 30
    assert {index for index in frames if index >= 41} == {41, 42, 43}
    assert mixed_batches(counts, per_batch, 0, 2) != mixed_batches(counts, per_batch, 0, 3)
