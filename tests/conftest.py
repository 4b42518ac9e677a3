"""Real recordings for tests; a test that needs one is skipped, with a reason, where it isn't."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kd3d_core.data.kitti import KittiDataset

_REPOSITORY = Path(__file__).resolve().parents[1]

# What a shell starts in the background ignores Ctrl-C, and so would tests and their processes.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine an example may take any time.
settings.register_profile("kd3d", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kd3d")


def shared_data(name: str) -> Path:
    """Folder or file `name` of the shared samples, in `$KD3D_DATA` or `../shared/data`.

    `$KD3D_DATA` may also be one of the samples itself. Skips the test if there is no such thing,
    saying where it was looked for.
    """
    given = os.environ.get("KD3D_DATA")
    if given:
        folders = [Path(given).expanduser(), Path(given).expanduser().absolute().parent]
    else:
        folders = [_REPOSITORY.parent / "shared" / "data"]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    pytest.skip(
        f"no {name} in {folders[0]}: put the KITTI samples there, or name their folder in KD3D_DATA"
    )


@pytest.fixture(scope="module", autouse=True)
def only_new_objects_are_searched_for_garbage() -> None:
    """What is there before a module stays.

    The node collects garbage whenever it is configured or cleaned up. Among the objects of all
    libraries and of thousands of tests that takes a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tracking() -> KittiDataset:
    """31 consecutive frames of KITTI tracking sequence 0001."""
    return KittiDataset(shared_data("kitti_tracking_0001"))


@pytest.fixture(scope="session")
def tracking_labels() -> Path:
    """Labels of these frames with ids, a file in the format of the tracking set."""
    return shared_data("kitti_tracking_0001") / "label_02_0001_full.txt"


@pytest.fixture(scope="session")
def kitti_object() -> KittiDataset:
    """The first 8 frames of KITTI's object set, with full velodyne scans."""
    return KittiDataset(shared_data("kitti_object"))


@pytest.fixture(scope="session")
def kitti_eval() -> Path:
    """Folder of labels, detections and what the official devkit says about them."""
    return shared_data("kitti_eval")


@pytest.fixture(scope="session")
def raw_calib_files() -> list[Path]:
    """Calibration files of five recording days."""
    return sorted(shared_data("kitti_raw_calib").glob("*.txt"))


@pytest.fixture(scope="session")
def foreign_bags() -> list[Path]:
    """Two MCAP files of other people's tools."""
    return sorted(shared_data("bags").glob("*.mcap"))
