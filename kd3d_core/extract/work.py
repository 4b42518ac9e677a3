"""One block of frames after another, read, made and written by whichever process takes it.

What a run keeps of its progress lies in `.extract/` of its output: the settings, a plan for each
recording, and what came of each block. A block counts as done once that is written, which is after
all of its frames.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kd3d_core.config import plain
from kd3d_core.data.kitti_writer import KittiWriter, WrittenFile, calib_of_camera
from kd3d_core.extract.frames import FaultyFrame, FrameMaker, MadeFrame
from kd3d_core.extract.plan import FrameRef, RecordingPlan, load_plan
from kd3d_core.files import read_json, write_whole

_BLOCK_FRAMES = 16


@dataclass(frozen=True)
class WorkFolder:
    """Where an extraction keeps its progress, `.extract/` in its output."""

    out: Path

    @property
    def path(self) -> Path:
        """The folder."""
        return self.out / ".extract"

    @property
    def settings(self) -> Path:
        """What is extracted from where; written last of what is planned."""
        return self.path / "settings.json"

    def plan(self, recording: int) -> Path:
        """The plan of a recording."""
        return self.path / f"plan-{recording:03d}.json"

    def result(self, block: str) -> Path:
        """What came of a block."""
        return self.path / "blocks" / f"{block}.json"

    @property
    def unpacked(self) -> Path:
        """What was compressed in the recordings, until all is extracted."""
        return self.path / "unpacked"

    def is_done(self, block: str) -> bool:
        """Whether a block is extracted."""
        return self.result(block).is_file()

    def set_folder(self, camera: str) -> Path:
        """The data set of a camera."""
        return self.out / camera if camera else self.out


def block_names(recording: int, frames: int) -> list[str]:
    """Names of the blocks of a recording with so many frames.

    >>> block_names(2, 20)
    ['002-000000', '002-000001']
    """
    return [f"{recording:03d}-{block:06d}" for block in range(-(-frames // _BLOCK_FRAMES))]


def block_size(name: str, frames: int) -> int:
    """How many of a recording's frames are in a block.

    >>> block_size("000-000000", 20), block_size("000-000001", 20)
    (16, 4)
    """
    return min(_BLOCK_FRAMES, frames - _BLOCK_FRAMES * int(name.partition("-")[2]))


def extract_block(folder: WorkFolder, digest: str, name: str) -> None:
    """Write the frames of a block, and then what came of it; `DataError` if the disk is full.

    `digest` is that of the extraction, see `run`.
    """
    recording, _, block = name.partition("-")
    first = int(block) * _BLOCK_FRAMES
    with quiet_readers():
        plan, maker = _maker(folder, int(recording), digest)
        made = maker.frames(plan.frames[first : first + _BLOCK_FRAMES])
        rows = [_row(folder, plan, each) for each in made]
    write_whole(folder.result(name), json.dumps({"frames": rows}).encode())


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Let readers of a recording, of which there are several, not say what the report says."""
    log = logging.getLogger("kd3d_core.data.bag")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@lru_cache(maxsize=1)
def _maker(folder: WorkFolder, recording: int, digest: str) -> tuple[RecordingPlan, FrameMaker]:
    """Kept from one block to the next, for as long as a process works at one recording."""
    plan = load_plan(folder.plan(recording))
    return plan, FrameMaker(plan, folder.unpacked)


def _row(folder: WorkFolder, plan: RecordingPlan, made: MadeFrame | FaultyFrame) -> dict[str, Any]:
    """What came of a frame of one camera, and its files, if it has any."""
    if isinstance(made, FaultyFrame):
        return {
            "name": made.ref.name,
            "camera": made.camera,
            "part": made.part,
            "reason": made.reason,
        }
    writer = KittiWriter(folder.set_folder(plan.cameras[made.camera].camera.name))
    calib = calib_of_camera(made.model)
    scan = made.scan
    points = None if scan is None else scan.points
    files = writer.write(made.ref.name, made.image, calib, points, made.labels)
    return {
        "name": made.ref.name,
        "camera": made.camera,
        "points": 0 if points is None else len(points),
        "dropped": {} if scan is None else dict(scan.dropped),
        "motion": "" if scan is None else scan.motion,
        "in_image": made.in_image,
        "labels": None if made.labels is None else len(made.labels),
        "label_fault": made.label_fault,
        "focal_px": made.model.focal_px,
        "height_m": made.height_m,
        "size": [made.model.width, made.model.height],
        "files": plain(files),
    }


@dataclass(frozen=True)
class Written:
    """A frame that was written: see `FrameReport`, and the plan's messages."""

    ref: FrameRef
    camera: int
    row: dict[str, Any]

    @property
    def files(self) -> list[WrittenFile]:
        """Its files, in the camera's folder."""
        return [WrittenFile(**each) for each in self.row["files"]]


def results(
    folder: WorkFolder, recording: int, plan: RecordingPlan
) -> tuple[list[Written], list[FaultyFrame]]:
    """What came of a recording's frames, in their order."""
    written, faulty = [], []
    refs = {(ref.name, camera): ref for ref in plan.frames for camera in ref.images}
    for row in _rows(folder, recording, plan):
        ref = refs[row["name"], row["camera"]]
        if "reason" in row:
            faulty.append(FaultyFrame(ref, row["camera"], row["part"], row["reason"]))
        else:
            written.append(Written(ref, row["camera"], row))
    order = {key: number for number, key in enumerate(refs)}
    written.sort(key=lambda each: order[each.ref.name, each.camera])
    return written, faulty


def _rows(folder: WorkFolder, recording: int, plan: RecordingPlan) -> Iterator[dict[str, Any]]:
    for block in block_names(recording, len(plan.frames)):
        yield from read_json(folder.result(block))["frames"]
