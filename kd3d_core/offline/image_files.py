"""Frames from image files: KITTI folders, and images of one camera that is known."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from kd3d_core.data.camera_file import read_camera_file
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.kitti_bag import CAMERA_FRAME, LIDAR_FRAME, START_NS
from kd3d_core.data.label_boxes import label_objects
from kd3d_core.data.labels import Label, describe_unusable, unusable, usable
from kd3d_core.errors import CalibrationError, DataError, Once
from kd3d_core.files import files_in
from kd3d_core.frames import Frame
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.camera_info import camera_from_info, camera_info_doubts
from kd3d_core.geometry.virtual_frame import VIRTUAL_FRAME, virtual_lidar_from_camera
from kd3d_core.messages.pictures import picture_size, read_picture
from kd3d_core.messages.types import Transform
from kd3d_core.offline.source import FrameReference, Source, UnknownPlace, View

log = logging.getLogger(__name__)

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class HandCalibration:
    """One camera for all images, as a user gives it: a file, or numbers.

    Attributes:
        file: in any format of `data.camera_file`, where there is one.
        intrinsics: fx, fy, cx, cy in pixels, where there is no file.
        camera_height: metres over the ground, where the file has no extrinsics.
        pitch_deg: by which the camera looks down, where the file has no extrinsics.
        rectified: whether the images are rectified already; those of KITTI's data sets are.
    """

    file: Path | None = None
    intrinsics: tuple[float, ...] = ()
    camera_height: float = 1.65
    rectified: bool = True
    pitch_deg: float = 0.0

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.intrinsics):
            raise CalibrationError(
                "images need one calibration: give --calib FILE, or --intrinsics FX FY CX CY"
            )
        if self.intrinsics and len(self.intrinsics) != 4:
            raise CalibrationError(
                f"--intrinsics has {len(self.intrinsics)} numbers: give FX FY CX CY, in pixels"
            )
        if self.intrinsics and not self.rectified:
            raise CalibrationError(
                "--raw-images needs the distortion of the lens: give --calib with a file that has "
                "it, for example of ROS's camera_calibration"
            )

    def camera(self, width: int, height: int) -> tuple[PinholeCamera, str]:
        """The camera of images of this size, or of the size that the file says.

        With it comes the frame of the results: the LiDAR's where the file says where that is,
        otherwise one that is made up. `CalibrationError` if it is incomplete or impossible.
        """
        virtual = virtual_lidar_from_camera(self.camera_height, math.radians(self.pitch_deg))
        if self.file is None:
            fx, fy, cx, cy = self.intrinsics
            projection = np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0]])
            camera = PinholeCamera(projection, width, height, virtual)
            camera.check_view()
            return camera, VIRTUAL_FRAME
        file = read_camera_file(self.file, self.rectified)
        info = file.info if file.info.width else replace(file.info, width=width, height=height)
        if not (self.rectified or info.d.any()):
            raise CalibrationError(
                f"{self.file}: --raw-images needs the distortion of the lens, which {file.format} "
                "hasn't got"
            )
        pose = virtual if file.lidar_from_camera is None else file.lidar_from_camera
        try:
            camera = camera_from_info(info, pose, self.rectified)
        except CalibrationError as error:
            raise CalibrationError(f"{self.file}: {error}") from None
        for doubt in camera_info_doubts(info, (camera.width, camera.height), self.rectified):
            log.warning("%s: %s", self.file, doubt)
        return camera, VIRTUAL_FRAME if file.lidar_from_camera is None else LIDAR_FRAME


def kitti_source(root: Path, wanted: slice, rate_hz: float) -> Source:
    """Frames of a folder in KITTI's layout, each with its own calibration and labels."""
    dataset = KittiDataset(root)
    names = dataset.names_with("image_2")
    if not names:
        raise DataError(f"{dataset.root}: there are no images in image_2")
    if not dataset.has("calib"):
        raise DataError(
            f"{dataset.root}: there is no calib: put KITTI's files there, or give the image_2 "
            "folder with --calib or --intrinsics"
        )
    load = _KittiFrames()
    loaders = [(name, partial(load, dataset.frame(name))) for name in names]
    return source_of(loaders, wanted, rate_hz, LIDAR_FRAME)


def image_source(
    images: Sequence[Path], calibration: HandCalibration, wanted: slice, rate_hz: float
) -> Source:
    """Frames of image files that one camera took.

    Where the calibration doesn't say for which size it is, that is the first readable image's.
    """
    check_names(images)
    view = View(*calibration.camera(*_first_size(images)))
    loaders = [(path.stem, partial(image_frame, view, path)) for path in images]
    return source_of(loaders, wanted, rate_hz, view.results_frame)


def check_names(images: Sequence[Path]) -> None:
    """`DataError` if two images are called alike: results are named after them."""
    names = Counter(path.stem for path in images)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise DataError(
            f"several images are called {min(twice)}, and results are named after them: "
            "detect in them one after the other, with other outputs"
        )


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, by name."""
    return files_in(folder, IMAGE_ENDINGS)


def source_of(
    loaders: Sequence[tuple[str, Callable[[int], Frame]]],
    wanted: slice,
    rate_hz: float,
    results_frame: str,
    place: UnknownPlace | None = None,
) -> Source:
    """The wanted frames of some that are loaded with their stamp, one after the other."""
    references = [
        FrameReference(name, partial(load, START_NS + round(index * 1e9 / rate_hz)))
        for index, (name, load) in enumerate(loaders)
    ][wanted]
    names = tuple(reference.name for reference in references)
    rate_hz /= wanted.step or 1
    return Source(references, names, rate_hz, results_frame, count=len(names), place=place)


class _KittiFrames:
    """Loads frames, with those of their labels that can be shown; says once if others can't."""

    def __init__(self) -> None:
        self._warn = Once(log.warning)

    def __call__(self, files: KittiFrame, stamp_ns: int) -> Frame:
        image = files.image()
        camera = files.camera((image.shape[0], image.shape[1]))
        pose = camera.lidar_from_camera
        truth = None
        if (objects := self._objects(files)) is not None:
            truth = label_objects(objects, pose, stamp_ns, LIDAR_FRAME)
        extrinsics = Transform(stamp_ns, LIDAR_FRAME, CAMERA_FRAME, pose)
        return Frame(files.name, stamp_ns, image, camera, extrinsics, truth, CAMERA_FRAME)

    def _objects(self, files: KittiFrame) -> list[Label] | None:
        if "label_2" not in files.files:
            return None
        try:
            labels = files.labels()
        except DataError as error:
            self._warn(
                f"frames are shown without their labels, which can't be read: {error}", "labels"
            )
            return None
        if left_out := unusable(labels, classes=None):
            self._warn(
                f"labels that can't be shown are left out, the first in frame {files.name}: "
                f"{describe_unusable(left_out)}",
                "labels",
            )
        return usable(labels)


def image_frame(view: View, path: Path, stamp_ns: int) -> Frame:
    """The picture of a file as a frame of a known camera."""
    return view.frame(path.stem, stamp_ns, read_picture(path))


def _first_size(images: Sequence[Path]) -> tuple[int, int]:
    """Width and height of the first image that can be opened."""
    reasons = []
    for path in images:
        try:
            height, width = picture_size(path)
            return width, height
        except DataError as error:
            reasons.append(error)
    raise DataError(f"none of the {len(images)} images can be read, the first: {reasons[0]}")
