"""Filling a cache on disk before a run, in all of its processes."""

import os
from collections.abc import Callable

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.progress import progress_of
from kd3d_core.training.loop import processes


def fill_together(
    what: str,
    frames: KittiDataset,
    fill: Callable[[KittiDataset, Callable[[], None]], object],
) -> None:
    """Let every process fill a cache for its share of the frames, and wait for the others.

    Machines may have a disk in common or not, so with several of them each then looks for what its
    own disk still lacks.

    Args:
        what: is being made, for the progress bar.
        frames: of all processes.
        fill: makes what isn't there yet for some frames, and calls its second argument after each.
    """
    here = processes()
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", here.num_processes))
    shares = [(here.process_index, here.num_processes)]
    if beside < here.num_processes:
        shares.append((here.local_process_index, beside))
    for first, every in shares:
        names = frames.names[first::every]
        with progress_of(what, len(names), here.is_main_process) as step:
            if names:
                fill(frames.subset(names), step)
        here.wait_for_everyone()
