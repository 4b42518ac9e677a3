"""Rendering into a folder as the commands do it: in all processes, with a progress bar."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from kd3d_core.data.synthetic.dataset import SynthConfig, write_dataset
from kd3d_core.progress import progress_of

log = logging.getLogger(__name__)


def render(
    config: SynthConfig, folder: Path, workers: int = 0, only: Sequence[int] | None = None
) -> None:
    """Render a data set into a folder, and leave out the frames that it has already.

    Args:
        config: what to render.
        folder: the data set's folder.
        workers: processes; 0 for one per CPU.
        only: numbers of the frames that are wanted now; default: all.

    Raises:
        Kd3dError: as `write_dataset`.
    """
    frames = config.frames if only is None else len(only)
    workers = workers or len(os.sched_getaffinity(0))
    with progress_of("rendering", frames) as step:
        known = write_dataset(config, folder, workers, step, only)
    if known:
        log.info("%s: %d of %d frames were there already", folder, known, frames)
