"""Which camera took an image of a bag: its CameraInfo and transforms at that time."""

from bisect import bisect_right
from pathlib import Path

from kd3d_core.data.bag import BagReader
from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.camera_info import camera_info_content
from kd3d_core.messages.types import CameraInfo
from kd3d_core.runtime.bag_transforms import BagTransforms, decoded
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.rejection import NotYetError


class BagCameras:
    """Cameras of a bag's images; a context manager.

    Fastest in the order of the images. CameraInfos are read at once, as `/tf_static` is.

    Attributes:
        source: makes the cameras; says which frame an image is in, and what had to be assumed.
        transforms: of the bag.
    """

    def __init__(
        self,
        path: Path,
        topics: CameraTopics,
        *,
        detector_frame: str = "",
        camera_height: float = 1.65,
        image_is_rectified: bool = True,
    ) -> None:
        """
        Args:
            path: the bag.
            topics: of the camera.
            detector_frame: as for `CameraSource`, as are the next two.
            camera_height: metres.
            image_is_rectified: whether the images are rectified.

        Raises:
            DataError: the bag can't be read.
        """
        self._follows = bool(detector_frame)
        self._infos = _read_infos(path, topics.infos)
        self.transforms = BagTransforms(path)
        self.source = CameraSource(
            self.transforms.buffer,
            detector_frame=detector_frame,
            camera_height=camera_height,
            image_is_rectified=image_is_rectified,
            image_topic=topics.images,
        )

    def __enter__(self) -> "BagCameras":
        return self

    def __exit__(self, *error: object) -> None:
        self.transforms.close()

    def camera(
        self, frame_id: str, width: int, height: int, stamp_ns: int, recorded_ns: int
    ) -> PinholeCamera:
        """The camera that took an image.

        Args:
            frame_id: that the image's header names; may be empty.
            width: of the image in pixels.
            height: of the image in pixels.
            stamp_ns: when the image was taken.
            recorded_ns: when it was recorded.

        Raises:
            RejectedError: as `CameraSource.camera`; a `NotYetError` if the bag doesn't say it.
            DataError: the bag is damaged.
        """
        if self._infos:
            latest = bisect_right(self._infos, stamp_ns, key=lambda item: item[0]) - 1
            _, info = self._infos[max(latest, 0)]
            self.source.set_info(info, info.frame_id)
        if self._follows:
            self.transforms.follow(recorded_ns)
        while True:
            try:
                return self.source.camera(frame_id, width, height, stamp_ns)
            except NotYetError:
                if not (self._follows and self.transforms.learn_more()):
                    raise


def _read_infos(path: Path, topic: str) -> list[tuple[int, CameraInfo]]:
    """CameraInfos and their stamps, in that order; those that say the same are one object."""
    distinct: dict[object, CameraInfo] = {}
    infos = []
    with BagReader(path) as reader:
        for raw, info in decoded(reader, topic) if topic else ():
            if isinstance(info, CameraInfo):
                key = info.frame_id, camera_info_content(info)
                infos.append((info.stamp_ns or raw.stamp_ns, distinct.setdefault(key, info)))
    return sorted(infos, key=lambda item: item[0])
