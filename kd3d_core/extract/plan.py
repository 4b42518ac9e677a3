"""What is to be extracted of a recording: which messages make which frame, and with which camera.

A plan is made once and kept beside the output, so that a run that was interrupted goes on with the
very same frames, and every process works by the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd3d_core.config import plain
from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.extract.config import Clock
from kd3d_core.extract.summary import CameraSet, ClockJump, Tally, TopicReport
from kd3d_core.extract.topics import RecordingTopics
from kd3d_core.files import read_json, write_whole
from kd3d_core.messages.types import CameraInfo, RegionOfInterest


class MessageRef(NamedTuple):
    """A message on a topic: when it was recorded, how many before it then, and its stamp."""

    recorded_ns: int
    repeat: int
    stamp_ns: int


class ImageRef(NamedTuple):
    """The image of a frame, with the numbers of its CameraInfo and of its pose in the plan."""

    message: MessageRef
    info: int
    pose: int


class FrameRef(NamedTuple):
    """The messages that make a frame.

    Attributes:
        name: of its files.
        images: by number of the camera.
        scan: None without LiDAR.
        labels: None if it has none.
    """

    name: str
    images: dict[int, ImageRef]
    scan: MessageRef | None
    labels: MessageRef | None

    @property
    def messages(self) -> list[MessageRef]:
        """All of them."""
        images = [image.message for image in self.images.values()]
        return [*images, *(each for each in (self.scan, self.labels) if each is not None)]


@dataclass(frozen=True, eq=False)
class PlannedCamera:
    """A camera of a recording.

    Attributes:
        camera: name and topics.
        rectified: whether its images are.
        infos: its CameraInfos.
        detector_from_lidar: 4x4 from the clouds' frame to the frame of the output.
        tallies: of its topics, for all messages that aren't in a frame of the plan.
        max_offset_s: from a scan to its image; None without LiDAR.
        doubts: what had to be assumed.
    """

    camera: CameraSet
    rectified: bool
    infos: tuple[CameraInfo, ...]
    detector_from_lidar: np.ndarray
    tallies: Mapping[str, Tally]
    max_offset_s: float | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RecordingPlan:
    """What is to be extracted of a recording.

    Attributes:
        path: absolute.
        topics: that are read.
        points_frame: the clouds' frame, or the virtual one.
        cameras: in the order of the topics.
        poses: 4x4 `lidar_from_camera`, those that differ.
        frames: in the order of the recording.
        clock: source of the time of measurement.
        image_bits: that are used of 16.
        correct_motion: whether points are corrected for the LiDAR's motion during a sweep.
        start_ns: recorded stamp of the first message.
        end_ns: recorded stamp of the last message.
        reports: of all of its topics.
        others: tallies of the topics that belong to no camera.
        stopped: where and why reading ended before the end.
        doubts: what had to be assumed.
    """

    path: str
    topics: RecordingTopics
    points_frame: str
    cameras: tuple[PlannedCamera, ...]
    poses: tuple[np.ndarray, ...]
    frames: tuple[FrameRef, ...]
    clock: Clock
    image_bits: int
    correct_motion: bool
    start_ns: int
    end_ns: int
    reports: tuple[TopicReport, ...]
    others: Mapping[str, Tally] = field(default_factory=dict)
    stopped: str = ""
    doubts: tuple[str, ...] = ()


def save_plan(path: Path, plan: RecordingPlan) -> None:
    """Write a plan; equal plans are equal bytes."""
    write_whole(path, json.dumps(_to_json(plan), default=_array).encode())


def load_plan(path: Path) -> RecordingPlan:
    """A plan that `save_plan` wrote."""
    values = read_json(path, most_bytes=2**31)
    topics = values["topics"]
    return RecordingPlan(
        path=values["path"],
        topics=RecordingTopics(
            tuple(CameraTopics(**each) for each in topics["cameras"]),
            topics["points"],
            topics["labels"],
            tuple(topics["transforms"]),
        ),
        points_frame=values["points_frame"],
        cameras=tuple(_camera(each) for each in values["cameras"]),
        poses=tuple(np.array(pose) for pose in values["poses"]),
        frames=tuple(_frame(row) for row in values["frames"]),
        clock=values["clock"],
        image_bits=values["image_bits"],
        correct_motion=values["correct_motion"],
        start_ns=values["start_ns"],
        end_ns=values["end_ns"],
        reports=tuple(
            TopicReport(**each | {"jumps": tuple(ClockJump(**jump) for jump in each["jumps"])})
            for each in values["reports"]
        ),
        others={name: Tally(**tally) for name, tally in values["others"].items()},
        stopped=values["stopped"],
        doubts=tuple(values["doubts"]),
    )


def _to_json(plan: RecordingPlan) -> dict[str, Any]:
    names = vars(plan).keys() - {"cameras", "poses", "frames"}
    values = {name: plain(getattr(plan, name)) for name in sorted(names)}
    values["cameras"] = [vars(each) | {"camera": plain(each.camera)} for each in plan.cameras]
    values["poses"] = plan.poses
    values["frames"] = plan.frames  # named tuples are lists in JSON
    return values


def _array(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else vars(value)


def _camera(values: dict[str, Any]) -> PlannedCamera:
    camera = values["camera"]
    return PlannedCamera(
        CameraSet(camera["name"], CameraTopics(**camera["topics"])),
        values["rectified"],
        tuple(_info(each) for each in values["infos"]),
        np.array(values["detector_from_lidar"]),
        {name: Tally(**tally) for name, tally in values["tallies"].items()},
        values["max_offset_s"],
        tuple(values["doubts"]),
    )


def _info(values: dict[str, Any]) -> CameraInfo:
    arrays = {name: np.array(values[name], np.float64) for name in "dkrp"}
    return CameraInfo(**values | arrays | {"roi": RegionOfInterest(**values["roi"])})


def _frame(row: list[Any]) -> FrameRef:
    name, images, scan, labels = row
    return FrameRef(
        name,
        {
            int(camera): ImageRef(MessageRef(*message), info, pose)
            for camera, (message, info, pose) in images.items()
        },
        None if scan is None else MessageRef(*scan),
        None if labels is None else MessageRef(*labels),
    )
