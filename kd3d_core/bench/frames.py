"""Images that models are timed on and compared in: rendered ones, or those of a folder."""

from collections.abc import Iterator
from pathlib import Path

from kd3d_core.bench.measure import Frame
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.synthetic.dataset import SynthConfig, frame_rig, render_frame
from kd3d_core.errors import DataError


def bench_frames(root: Path | None, count: int) -> list[Frame]:
    """The first `count` frames of a folder in KITTI's layout, or as many rendered ones.

    `DataError` if the folder lacks images or calibration.
    """
    return list(_rendered(count) if root is None else _recorded(root, count))


def _rendered(count: int) -> Iterator[Frame]:
    config = SynthConfig(count, seed=4242)
    for index in range(count):
        picture = render_frame(config, index).picture
        yield Frame(picture.image, frame_rig(config, index).rectified_camera)


def _recorded(root: Path, count: int) -> Iterator[Frame]:
    dataset = KittiDataset(root)
    dataset.require(("image_2", "calib"))
    if not len(dataset):
        raise DataError(f"{root} has no frame")
    for name in dataset.names[:count]:
        frame = dataset.subset([name])[0]
        image = frame.image()
        yield Frame(image, frame.camera(image.shape[:2]))
