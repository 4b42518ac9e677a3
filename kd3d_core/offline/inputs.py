"""What inputs of a command line are, found out by looking at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd3d_core.data.bag import is_bag
from kd3d_core.data.photos import focal_of_view
from kd3d_core.data.video import VIDEO_ENDINGS, is_live
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.offline.bag_source import BagSettings, bag_source
from kd3d_core.offline.image_files import (
    IMAGE_ENDINGS,
    HandCalibration,
    image_source,
    images_in,
    kitti_source,
)
from kd3d_core.offline.photos import UnknownCamera, growing_source, photo_source
from kd3d_core.offline.placing import USUAL_HEIGHT_M
from kd3d_core.offline.source import Source
from kd3d_core.offline.videos import video_source

_STEEPEST_DEG = 60.0


@dataclass(frozen=True)
class InputSettings:
    """How to read inputs, as the options of `kd3d-detect` say it.

    Attributes:
        wanted: numbers of the frames.
        rate_hz: frames per second of images that have no stamps.
        watch: whether a folder of images is watched for more of them.
        calib: file with the calibration of images and videos.
        intrinsics: FX FY CX CY in pixels, where there is no file.
        hfov_deg: field of view over the width, where there is neither.
        height_m: of the camera over the ground; None: not known.
        pitch_deg: by which it looks down; None: not known.
        rectified: whether the images are.
        image_topic: of a bag, as `BagSettings` has it; so are the next three.
        info_topic: of a bag.
        detector_frame: of a bag.
        with_poses: of a bag.
    """

    wanted: slice
    rate_hz: float = 10.0
    watch: bool = False
    calib: Path | None = None
    intrinsics: tuple[float, ...] = ()
    hfov_deg: float | None = None
    height_m: float | None = None
    pitch_deg: float | None = None
    rectified: bool = True
    image_topic: str = ""
    info_topic: str = ""
    detector_frame: str = ""
    with_poses: bool = False

    def __post_init__(self) -> None:
        if self.hfov_deg is not None:
            focal_of_view(self.hfov_deg, 1)  # which refuses impossible ones
        virtual_lidar_from_camera(self._height_m)  # likewise
        if not abs(self.pitch_deg or 0.0) < _STEEPEST_DEG:
            raise Kd3dError(f"--pitch {self.pitch_deg:g}: give degrees below {_STEEPEST_DEG:g}")
        if self.is_calibrated and self.hfov_deg is not None:
            raise Kd3dError("--hfov is for images without --calib and --intrinsics")

    @property
    def is_calibrated(self) -> bool:
        """Whether there is a calibration by hand."""
        return self.calib is not None or bool(self.intrinsics)

    @property
    def _height_m(self) -> float:
        return USUAL_HEIGHT_M if self.height_m is None else self.height_m

    @property
    def rig(self) -> HandCalibration | UnknownCamera:
        """The camera of images and videos."""
        if not self.is_calibrated:
            return UnknownCamera(self.hfov_deg, self.height_m, self.pitch_deg)
        return HandCalibration(
            self.calib, self.intrinsics, self._height_m, self.rectified, self.pitch_deg or 0.0
        )

    @property
    def bag(self) -> BagSettings:
        """What is for bags."""
        return BagSettings(
            self.image_topic,
            self.info_topic,
            self.detector_frame,
            self._height_m,
            self.rectified,
            self.with_poses,
        )


def find_source(inputs: Sequence[str], settings: InputSettings) -> Source:
    """Frames of a bag, a video, camera or stream, a KITTI folder, or of images.

    Raises:
        Kd3dError: options don't go with them, or they don't go with each other.
        DataError: there is nothing in them.
    """
    paths = [Path(word).expanduser() for word in inputs]
    wanted, rate_hz = settings.wanted, settings.rate_hz
    by_hand = settings.is_calibrated or settings.hfov_deg is not None
    by_hand |= settings.pitch_deg is not None
    if settings.watch and not (len(paths) == 1 and paths[0].is_dir()):
        raise Kd3dError("--watch is for one folder of images")
    if bag := next(filter(is_bag, paths), None):
        _alone(inputs, bag, "a bag")
        if by_hand:
            raise Kd3dError(
                "--calib, --intrinsics, --hfov and --pitch are for images and videos; a bag has "
                "CameraInfo"
            )
        return bag_source(bag, settings.bag, wanted)
    if settings.image_topic or settings.info_topic or settings.detector_frame:
        raise Kd3dError(
            f"--image-topic, --info-topic and --detector-frame are for bags; {inputs[0]} is none"
        )
    if root := next(filter(_is_kitti, paths), None):
        _alone(inputs, root, "a KITTI folder")
        if by_hand or not settings.rectified:
            raise Kd3dError(
                f"{root} is a KITTI folder, whose images are rectified and have a calibration "
                "each: leave out --calib, --intrinsics, --hfov, --pitch and --raw-images, or give "
                "its image_2"
            )
        return kitti_source(root, wanted, rate_hz)
    rig = settings.rig
    if not settings.rectified and isinstance(rig, UnknownCamera):
        raise Kd3dError("--raw-images needs the distortion of the lens: give --calib FILE")
    if video := next(filter(is_video, inputs), None):
        _alone(inputs, video, "a video or camera")
        return video_source(video, rig, wanted)
    if settings.watch:
        return growing_source(paths[0], rig, wanted.step or 1, rate_hz)
    images = [image for path in paths for image in _images(path)]
    if isinstance(rig, UnknownCamera):
        return photo_source(images, rig, wanted, rate_hz)
    return image_source(images, rig, wanted, rate_hz)


def is_video(word: str) -> bool:
    """Whether an input is a video, by its ending, or a camera or stream."""
    return is_live(word) or Path(word).suffix.lower() in VIDEO_ENDINGS


def _alone(inputs: Sequence[object], one: object, kind: str) -> None:
    if len(inputs) > 1:
        raise Kd3dError(f"{one} is {kind}: give it as the only input")


def _is_kitti(path: Path) -> bool:
    return any((path / part / "image_2").is_dir() for part in ("", "training"))


def _images(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    images = images_in(path)
    if not images:
        raise DataError(
            f"{path}: neither images ({', '.join(IMAGE_ENDINGS)}) nor a bag nor image_2 is in it; "
            "give videos as files"
        )
    return images
