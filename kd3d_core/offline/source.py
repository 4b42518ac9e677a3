"""Where frames come from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.data.kitti_bag import IMAGE_TOPIC, INFO_TOPIC
from kd3d_core.frames import Frame

_FILES = CameraTopics(IMAGE_TOPIC, INFO_TOPIC)


@dataclass(frozen=True)
class FrameReference:
    """A frame that can be loaded; `load` raises a `Kd3dError` if it can't be used."""

    name: str
    load: Callable[[], Frame]


@dataclass(frozen=True, eq=False)
class Source:
    """A sequence of frames.

    Attributes:
        references: the frames, in order; may be iterated more than once. Each is to be loaded
            before the next one is taken: the files behind it are open until then.
        names: of the frames.
        rate_hz: frames per second, for a video of them.
        results_frame: `frame_id` of the results.
        camera_topics: of the images and their CameraInfo, for a bag of them.
    """

    references: Iterable[FrameReference]
    names: tuple[str, ...]
    rate_hz: float
    results_frame: str
    camera_topics: CameraTopics = _FILES

    @property
    def count(self) -> int:
        """How many frames there are."""
        return len(self.names)
