"""Where frames come from."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

import numpy as np

from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.data.kitti_bag import CAMERA_FRAME, IMAGE_TOPIC, INFO_TOPIC
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import Transform

_FILES = CameraTopics(IMAGE_TOPIC, INFO_TOPIC)


@dataclass(frozen=True)
class FrameReference:
    """A frame that can be loaded; `load` raises a `Kd3dError` if it can't be used."""

    name: str
    load: Callable[[], Frame]


@dataclass(frozen=True, eq=False)
class View:
    """The camera of images, and how it is known; see `Frame` for notes and doubt."""

    camera: PinholeCamera
    results_frame: str
    notes: tuple[str, ...] = ()
    doubt: str = ""

    def frame(self, name: str, stamp_ns: int, image: np.ndarray) -> Frame:
        """An image of that camera as a frame."""
        pose = self.camera.lidar_from_camera
        extrinsics = Transform(stamp_ns, self.results_frame, CAMERA_FRAME, pose)
        return Frame(
            name, stamp_ns, image, self.camera, extrinsics, None, CAMERA_FRAME,
            notes=self.notes, doubt=self.doubt,
        )  # fmt: skip


@dataclass(frozen=True)
class UnknownPlace:
    """Cameras that stand where nobody measured: what a person says of it, and what is missing.

    Attributes:
        height_m: over the ground; None: to be estimated.
        pitch_deg: below the horizontal; None: to be estimated.
        one_camera: whether all frames are of one camera that stands firmly on its vehicle.
    """

    height_m: float | None = None
    pitch_deg: float | None = None
    one_camera: bool = False


@dataclass(frozen=True, eq=False)
class Source:
    """A sequence of frames.

    Attributes:
        references: the frames, in order; may be iterated more than once. Each is to be loaded
            before the next one is taken: the files behind it are open until then.
        names: of the frames; those of a video and of folders that grow are told by a pattern.
        rate_hz: frames per second, for a video of them.
        results_frame: `frame_id` of the results.
        camera_topics: of the images and their CameraInfo, for a bag of them.
        count: how many frames there are, about; None if there is no end.
        place: where the cameras are, if nobody has measured that; else None.
        is_live: whether frames are as old as their stamps say, so that there is a latency.
    """

    references: Iterable[FrameReference]
    names: Container[str]
    rate_hz: float
    results_frame: str
    camera_topics: CameraTopics = _FILES
    count: int | None = None
    place: UnknownPlace | None = None
    is_live: bool = False
