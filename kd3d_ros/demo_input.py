"""What the demo plays: a drive that it renders, or a sequence in KITTI's layout."""

from collections.abc import Sequence
from pathlib import Path

from kd3d_core.cli.frames import frame_slice
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.errors import DataError

# A street with four or five cars within 30 m, few of them hidden or cut off. The model of the demo
# was trained and validated with other seeds.
DRIVE_SEED, DRIVE_FRAMES = 23, 50


def rendered_drive(folder: Path, frames: str = ":") -> KittiDataset:
    """Frames of the demo's drive, of which those are rendered that the folder doesn't hold yet.

    Args:
        folder: where they are kept.
        frames: which of them, as `a:b`.
    """
    from kd3d_core.data.synthetic.dataset import SynthConfig, frame_names
    from kd3d_core.data.synthetic.render import render

    config = SynthConfig(DRIVE_FRAMES, DRIVE_SEED, sequence=True)
    names = _chosen(frame_names(config), frames, "the drive")
    render(config, folder, only=[int(name) for name in names])
    return KittiDataset(folder, names)


def kitti_sequence(folder: Path, frames: str = ":") -> KittiDataset:
    """Frames of a folder in KITTI's layout; `DataError` if it is none."""
    dataset = KittiDataset(folder)
    return dataset.subset(_chosen(dataset.names, frames, str(folder)))


def describe(dataset: KittiDataset) -> tuple[str, str]:
    """What is played, in a few words, and what to know of numbers that come from it."""
    if dataset.meta.get("source") == "kd3d-synth":
        kind = "drive" if dataset.meta.get("sequence") else "scenes"
        return f"rendered {kind}, seed {dataset.meta.get('seed')}", (
            "The images are rendered by kd3d-synth: what a model finds in them says little about "
            "real streets. Objects that are hidden by more than nine tenths or farther away than "
            "70 m have no label, so detections there count as wrong."
        )
    root = dataset.root.parent if dataset.root.name == "training" else dataset.root
    return root.name, (
        "KITTI's DontCare areas are not in the bag, so detections there count as wrong."
    )


def _chosen(names: Sequence[str], frames: str, where: str) -> Sequence[str]:
    chosen = names[frame_slice(frames)]
    if not chosen:
        raise DataError(f"--frames {frames} selects none of the {len(names)} frames in {where}")
    return chosen
