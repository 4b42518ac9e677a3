"""Frames on disk, in KITTI's layout: rendered in parallel, whole or not at all, and resumable."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kd3d_core.data.kitti import read_meta
from kd3d_core.data.kitti_writer import KittiWriter
from kd3d_core.data.labels import Label
from kd3d_core.data.synthetic.drive import Drive, Moment
from kd3d_core.data.synthetic.labels import make_labels
from kd3d_core.data.synthetic.lidar import LidarConfig, Scan, scan
from kd3d_core.data.synthetic.picture import Picture, take_picture
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.rig import CameraConfig, Rig, RigVariation
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.workers import work_through

RATE_HZ = 10.0
"""Frames per second of a sequence."""
_FORMAT = 2  # of what a seed makes; to be raised when the same seed makes other frames


@dataclass(frozen=True)
class SynthConfig:
    """What is rendered.

    Attributes:
        frames: how many.
        seed: of everything; the same seed makes the same bytes.
        sequence: one drive at 10 Hz instead of a scene of its own for each frame.
        camera: the camera.
        variation: how much it differs from scene to scene; from drive to drive for a sequence.
        lidar: the LiDAR.
        streets: `plain` ones of houses and gardens, or `varied` ones and cameras of any tone, which
            are nearer to real ones.
    """

    frames: int
    seed: int = 0
    sequence: bool = False
    camera: CameraConfig = field(default_factory=CameraConfig)
    lidar: LidarConfig = field(default_factory=LidarConfig)
    variation: RigVariation = field(default_factory=RigVariation)
    streets: Literal["plain", "varied"] = "plain"

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
    rig = frame_rig(config, index)
    varied = config.streets == "varied"
    if config.sequence:
        moment = sequence_drive(config).moment(index / RATE_HZ)
    else:
        moment = Drive(np.random.SeedSequence((config.seed, index, 0)), varied=varied).moment()
    # The camera's settings don't change within a drive, its noise does.
    look = np.random.default_rng((config.seed, 0 if config.sequence else index, 1))
    noise = np.random.SeedSequence((config.seed, index, 2)).spawn(2)
    caster = RayCaster(moment.mesh.triangles)
    picture = take_picture(
        moment, caster, rig.camera, look, np.random.default_rng(noise[0]), varied
    )
    points = scan(moment, caster, config.lidar, np.random.default_rng(noise[1]))
    return Frame(moment, picture, points, make_labels(moment, caster, rig.rectified_camera))


def frame_rig(config: SynthConfig, index: int) -> Rig:
    """The sensors of frame number `index`."""
    rng = np.random.default_rng((config.seed, 0 if config.sequence else index, 3))
    return Rig(config.variation.draw(config.camera, rng))


def sequence_drive(config: SynthConfig) -> Drive:
    """The drive of a sequence; one is kept in memory."""
    return _sequence(config.seed, config.frames, config.streets == "varied")


@lru_cache(maxsize=1)
def _sequence(seed: int, frames: int, varied: bool) -> Drive:
    return Drive(np.random.SeedSequence((seed, 0, 0)), frames / RATE_HZ, varied)


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
    writer = KittiWriter(out)
    _claim(writer, config)
    names = frame_names(config)
    wanted = names if only is None else [names[index] for index in only]
    work = partial(_write_frame, config, writer)
    known = 0
    for is_new in work_through(work, wanted, out, writer.is_whole, workers):
        known += not is_new
        on_frame()
    return known


def frame_names(config: SynthConfig) -> list[str]:
    """Names of the frames in the folder."""
    return [f"{index:06d}" for index in range(config.frames)]


def _write_frame(config: SynthConfig, writer: KittiWriter, name: str) -> None:
    frame = render_frame(config, int(name))
    calib = frame_rig(config, int(name)).calib_text()
    writer.write(name, frame.picture.image, calib, frame.scan.points, frame.labels)


def _claim(writer: KittiWriter, config: SynthConfig) -> None:
    """Write `meta.json`, or check that the folder's is of the same configuration."""
    out, meta = writer.root, _meta(config)
    found = read_meta(out)
    if found is None:
        if (out / "training").exists():
            raise DataError(
                f"{out}: it holds a data set that kd3d-synth didn't make: give another folder"
            )
        found = meta
    if not config.sequence:  # a drive depends on its length, but other scenes are added to a set
        meta["frames"] = max(config.frames, found.get("frames", 0))
        found["frames"] = meta["frames"]
    for key, value in meta.items():
        if found.get(key) != value:
            raise DataError(
                f"{out}: it holds frames with another {key!r} (see its meta.json): "
                "give the same options, or another folder"
            )
    writer.write_meta(meta)


def _meta(config: SynthConfig) -> dict[str, Any]:
    """What `meta.json` says, as JSON has it."""
    about = {
        "source": "kd3d-synth",
        "format": _FORMAT,
        **asdict(config),
        "rate_hz": RATE_HZ if config.sequence else None,
    }
    return json.loads(json.dumps(about))
