"""Filling a cache on disk before a run, in all of its processes."""

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

    Args:
        what: is being made, for the progress bar.
        frames: of all processes.
        fill: makes it for some frames, and calls its second argument after each.
    """
    here = processes()
    names = frames.names[here.process_index :: here.num_processes]
    with progress_of(what, len(names), here.is_main_process) as step:
        if names:
            fill(frames.subset(names), step)
    here.wait_for_everyone()
