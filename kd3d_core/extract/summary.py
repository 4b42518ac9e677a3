"""What an extraction found in recordings and made of them: what its report shows.

All times are nanoseconds since 1970, by the clock that is meant: `stamp_ns` by the clock of the
extraction (`--clock`), `recorded_ns` by that of the bag.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.data.labels import Label
from kd3d_core.geometry.camera import PinholeCamera

if TYPE_CHECKING:  # of what draws reports, which workers don't
    from kd3d_core.data.calibration_check import Finding
    from kd3d_core.visual.page import Frame

REPORT_NAMES = ("report.json", "report.html")
"""Files of a report."""


@dataclass(frozen=True)
class CameraSet:
    """A camera, whose frames are a data set of their own.

    Attributes:
        name: of its folder in the output; empty if there is one camera, whose set is the output.
        topics: with its images and CameraInfo; `infos` is empty where a file has the calibration.
    """

    name: str
    topics: CameraTopics


@dataclass(frozen=True)
class Tally:
    """What became of each message of a topic.

    Attributes:
        used: are in a frame, or were needed for one.
        skipped: nothing is wrong with them, but they aren't wanted: reason to number.
        rejected: can't be used: reason to number.
    """

    used: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All messages, which are as many as the bag has."""
        return self.used + sum(self.skipped.values()) + sum(self.rejected.values())


@dataclass(frozen=True)
class ClockJump:
    """A place where a topic's header stamps leave the bag's own clock, or go back.

    Attributes:
        recorded_ns: of the message after the jump.
        step_s: by how much its header stamp is off what the message before makes one expect.
    """

    recorded_ns: int
    step_s: float


@dataclass(frozen=True)
class TopicReport:
    """A topic of a recording, and what became of its messages.

    Attributes:
        name: of the topic.
        type: of its messages, `sensor_msgs/msg/Image`.
        count: messages, as the bag counts them.
        rate_hz: median over the time between messages; None for fewer than two, or where the topic
            wasn't looked through.
        first_ns: recorded stamp of the first; None as above.
        last_ns: recorded stamp of the last.
        zero_stamps: messages whose header has no stamp.
        duplicate_stamps: messages with the header stamp of an earlier one.
        jumps: of the header's clock, the first ones.
        jump_count: all of them.
    """

    name: str
    type: str
    count: int
    rate_hz: float | None = None
    first_ns: int | None = None
    last_ns: int | None = None
    zero_stamps: int = 0
    duplicate_stamps: int = 0
    jumps: tuple[ClockJump, ...] = ()
    jump_count: int = 0


@dataclass(frozen=True, eq=False)
class FrameReport:
    """A frame that was extracted.

    Attributes:
        name: of its files.
        stamp_ns: of the scan; of the image where there is no LiDAR.
        image_stamp_ns: of its image.
        points: in its scan; 0 without LiDAR.
        dropped: points that were left out, reason to number.
        in_image: share of the points in front of the camera that fall into the image; None without
            LiDAR.
        labels: in its label file.
        size_bytes: of its files.
        motion: what was done about the LiDAR's motion during the sweep; empty if there was nothing
            to do.
    """

    name: str
    stamp_ns: int
    image_stamp_ns: int
    points: int
    dropped: Mapping[str, int]
    in_image: float | None
    labels: int
    size_bytes: int
    motion: str = ""

    @property
    def offset_s(self) -> float:
        """From the scan to the image, positive if the image is later."""
        return (self.image_stamp_ns - self.stamp_ns) / 1e9


@dataclass(frozen=True, eq=False)
class Sample:
    """A frame to look at: what is in its files.

    Attributes:
        name: of its files.
        image: `(H, W, 3)` uint8 RGB, rectified.
        camera: of the image, without distortion; `lidar_from_camera` is of the points' frame.
        points: `(N, 4)` float32 x, y, z, intensity in the LiDAR's frame; None without LiDAR.
        labels: None where the recording has none.
    """

    name: str
    image: np.ndarray
    camera: PinholeCamera
    points: np.ndarray | None = None
    labels: tuple[Label, ...] | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """What is seen in a sample.

    Attributes:
        name: of its files.
        findings: what looks wrong with its calibration.
        edge_scores: how well its edges agree, see `edges.sample_scores`.
        picture: None where none was drawn.
    """

    name: str
    findings: "tuple[Finding, ...]" = ()
    edge_scores: list[float] | None = None
    picture: "Frame | None" = None


@dataclass(frozen=True, eq=False)
class CameraReport:
    """What came of one camera in one recording.

    Attributes:
        camera: the camera.
        tallies: what became of the messages on each of its topics, by name: images, CameraInfos,
            points, labels.
        frames: in their order; while only checking, those that would be extracted, with what
            their stamps tell.
        looks: at a few of them.
        max_offset_s: from a scan to its image, at most; None without LiDAR.
        doubts: what had to be assumed, a sentence each.
        focal_px: of the rectified images; None if there is no frame.
        camera_height_m: over the ground; None if nothing tells.
    """

    camera: CameraSet
    tallies: Mapping[str, Tally]
    frames: tuple[FrameReport, ...] = ()
    looks: tuple[Look, ...] = ()
    max_offset_s: float | None = None
    doubts: tuple[str, ...] = ()
    focal_px: float | None = None
    camera_height_m: float | None = None


@dataclass(frozen=True, eq=False)
class RecordingReport:
    """One recording.

    Attributes:
        path: as the user gave it.
        start_ns: recorded stamp of the first message.
        end_ns: recorded stamp of the last message.
        topics: all of its topics.
        others: tallies of the topics that belong to no camera, `/tf` for example, by name.
        cameras: one report each.
        stopped: where and why reading ended before the end; empty if it didn't.
        doubts: what had to be assumed, a sentence each.
    """

    path: str
    start_ns: int
    end_ns: int
    topics: tuple[TopicReport, ...]
    others: Mapping[str, Tally]
    cameras: tuple[CameraReport, ...]
    stopped: str = ""
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ExtractReport:
    """What an extraction found and made.

    Attributes:
        recordings: in the order in which they were given.
        settings: of the extraction, by name, as JSON has them.
        version: of kd3d.
        extracted: False if it was only checked.
    """

    recordings: tuple[RecordingReport, ...]
    settings: Mapping[str, object]
    version: str
    extracted: bool

    @property
    def frame_count(self) -> int:
        """Frames of all cameras."""
        return sum(
            len(camera.frames) for recording in self.recordings for camera in recording.cameras
        )

    @property
    def size_bytes(self) -> int:
        """Of all frames' files."""
        return sum(
            frame.size_bytes
            for recording in self.recordings
            for camera in recording.cameras
            for frame in camera.frames
        )
