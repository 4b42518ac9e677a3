"""Frames on disk, in KITTI's layout: rendered in parallel, whole or not at all, and resumable."""

import io
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd3d_core.data.kitti import Label
from kd3d_core.data.synthetic.drive import Drive, Moment
from kd3d_core.data.synthetic.labels import make_labels
from kd3d_core.data.synthetic.lidar import LidarConfig, Scan, scan
from kd3d_core.data.synthetic.picture import Picture, take_picture
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.rig import CameraConfig, Rig
from kd3d_core.errors import ConfigError, DataError, Kd3dError
from kd3d_core.files import write_whole

RATE_HZ = 10.0
"""Frames per second of a sequence."""
_FORMAT = 1  # of what a seed makes; to be raised when the same seed makes other frames
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class SynthConfig:
    """What is rendered.

    Attributes:
        frames: how many.
        seed: of everything; the same seed makes the same bytes.
        sequence: one drive at 10 Hz instead of a scene of its own for each frame.
        camera: the camera.
        lidar: the LiDAR.
    """

    frames: int
    seed: int = 0
    sequence: bool = False
    camera: CameraConfig = field(default_factory=CameraConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ConfigError(f"frames is {self.frames}: give at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}: give 0 or more")


@dataclass(frozen=True, eq=False)
class Frame:
    """One rendered frame."""

    moment: Moment
    picture: Picture
    scan: Scan
    labels: list[Label]


def render_frame(config: SynthConfig, index: int) -> Frame:
    """Frame number `index`, from nothing but the configuration."""
    rig = Rig(config.camera)
    if config.sequence:
        moment = _sequence(config.seed, config.frames).moment(index / RATE_HZ)
    else:
        moment = Drive(np.random.SeedSequence((config.seed, index, 0))).moment()
    # The camera's settings don't change within a drive, its noise does.
    look = np.random.default_rng((config.seed, 0 if config.sequence else index, 1))
    noise = np.random.SeedSequence((config.seed, index, 2)).spawn(2)
    caster = RayCaster(moment.mesh.triangles)
    picture = take_picture(moment, caster, rig.camera, look, np.random.default_rng(noise[0]))
    points = scan(moment, caster, config.lidar, np.random.default_rng(noise[1]))
    return Frame(moment, picture, points, make_labels(moment, caster, rig.rectified_camera))


@lru_cache(maxsize=1)
def _sequence(seed: int, frames: int) -> Drive:
    return Drive(np.random.SeedSequence((seed, 0, 0)), frames / RATE_HZ)


def write_dataset(
    config: SynthConfig,
    out: Path,
    workers: int = 1,
    on_frame: Callable[[], None] = lambda: None,
    only: Sequence[int] | None = None,
) -> int:
    """Render a data set into a folder, and leave out the frames that it has already.

    Args:
        config: what to render.
        out: the data set's folder; its frames go to `training/`.
        workers: processes.
        on_frame: called for each frame, new or not.
        only: numbers of the frames that are wanted now; default: all.

    Returns:
        How many frames were there already.

    Raises:
        DataError: the folder holds frames of another configuration, or can't be written.
        Kd3dError: a worker was killed.
    """
    _claim(out, config)
    wanted = range(config.frames) if only is None else only
    missing = [index for index in wanted if not _is_whole(out, index)]
    known = len(wanted) - len(missing)
    for _ in range(known):
        on_frame()
    for _ in _rendered(config, out, missing, min(workers, len(missing))):
        on_frame()
    return known


def _rendered(config: SynthConfig, out: Path, indices: list[int], workers: int) -> Iterator[None]:
    if workers <= 1:
        for index in indices:
            _write_frame(config, out, index)
            yield
        return
    spawn = get_context("spawn")
    with (
        _single_threaded(),
        ProcessPoolExecutor(workers, spawn, _leave_interrupts_to_parent) as pool,
    ):
        try:
            jobs = [pool.submit(_write_frame, config, out, index) for index in indices]
            for job in as_completed(jobs):
                job.result()
                yield
        except BrokenProcessPool:
            raise Kd3dError(
                f"{out}: a process that rendered was killed, as happens when memory runs out: the "
                "same command goes on; fewer workers need less memory"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let processes that start meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ |= dict.fromkeys(_THREADS, "1")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def frame_names(config: SynthConfig) -> list[str]:
    """Names of the frames in the folder."""
    return [f"{index:06d}" for index in range(config.frames)]


def _paths(out: Path, index: int) -> dict[str, Path]:
    parts = {"velodyne": "bin", "calib": "txt", "label_2": "txt", "image_2": "png"}
    return {
        part: out / "training" / part / f"{index:06d}.{ending}" for part, ending in parts.items()
    }


def _is_whole(out: Path, index: int) -> bool:
    return all(path.is_file() for path in _paths(out, index).values())


def _write_frame(config: SynthConfig, out: Path, index: int) -> None:
    frame = render_frame(config, index)
    paths = _paths(out, index)
    png = io.BytesIO()
    Image.fromarray(frame.picture.image).save(png, "PNG", compress_level=3)
    write_whole(paths["velodyne"], frame.scan.points.astype("<f4").tobytes())
    write_whole(paths["calib"], Rig(config.camera).calib_text().encode())
    write_whole(paths["label_2"], "".join(f"{label}\n" for label in frame.labels).encode())
    write_whole(paths["image_2"], png.getvalue())


def _claim(out: Path, config: SynthConfig) -> None:
    """Write `meta.json`, or check that the folder's is of the same configuration."""
    path, meta = out / "meta.json", _meta(config)
    if not path.exists():
        if (out / "training").exists():
            raise DataError(
                f"{out}: it holds a data set that kd3d-synth didn't make: give another folder"
            )
        write_whole(path, (json.dumps(meta, indent=2) + "\n").encode())
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    found = found if isinstance(found, dict) else {}
    if not config.sequence:  # a drive depends on its length, but other scenes are added to a set
        meta["frames"] = max(config.frames, found.get("frames", 0))
        found["frames"] = meta["frames"]
    for key, value in meta.items():
        if found.get(key) != value:
            raise DataError(
                f"{out}: it holds frames with another {key!r} (see its meta.json): "
                "give the same options, or another folder"
            )
    write_whole(path, (json.dumps(meta, indent=2) + "\n").encode())


def _meta(config: SynthConfig) -> dict[str, Any]:
    """What `meta.json` says, as JSON has it."""
    about = {
        "source": "kd3d-synth",
        "format": _FORMAT,
        **asdict(config),
        "rate_hz": RATE_HZ if config.sequence else None,
    }
    return json.loads(json.dumps(about))
