"""Frames from photos of cameras that nobody calibrated, and from folders that grow."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kd3d_core.data.photos import photo_camera, photo_focal_length
from kd3d_core.errors import DataError
from kd3d_core.frames import Frame
from kd3d_core.geometry.virtual_frame import VIRTUAL_FRAME, virtual_lidar_from_camera
from kd3d_core.messages.pictures import picture_exif, picture_size, read_picture
from kd3d_core.offline.image_files import (
    HandCalibration,
    check_names,
    image_frame,
    images_in,
    source_of,
)
from kd3d_core.offline.placing import USUAL_HEIGHT_M
from kd3d_core.offline.source import FrameReference, Source, UnknownPlace, View

_LOOK_EVERY_S = 0.2
_GROWS_FOR_S = 5.0
"""A picture that can't be read yet may still be written; after this long it is broken."""


@dataclass(frozen=True)
class UnknownCamera:
    """What a person says of cameras that aren't calibrated; None: nothing.

    Attributes:
        hfov_deg: field of view over the width of the image.
        height_m: over the ground.
        pitch_deg: by which the camera looks down.
    """

    hfov_deg: float | None = None
    height_m: float | None = None
    pitch_deg: float | None = None

    def place(self, one_camera: bool) -> UnknownPlace:
        """Where it stands."""
        return UnknownPlace(self.height_m, self.pitch_deg, one_camera)

    def view(self, width: int, height: int, exif: Mapping[int, Any] | None = None) -> View:
        """The camera of images of this size and with these notes; level, until it is placed."""
        focal = photo_focal_length(exif or {}, width, height, self.hfov_deg)
        pose = virtual_lidar_from_camera(USUAL_HEIGHT_M)
        camera = photo_camera(focal.px, width, height, pose)
        return View(camera, VIRTUAL_FRAME, (focal.source,), focal.doubt)


def photo_source(
    images: Sequence[Path], unknown: UnknownCamera, wanted: slice, rate_hz: float
) -> Source:
    """Photos of any cameras and sizes, each with the focal length that its EXIF says."""
    check_names(images)
    loaders = [(path.stem, partial(_photo_frame, unknown, path)) for path in images]
    return source_of(loaders, wanted, rate_hz, VIRTUAL_FRAME, unknown.place(one_camera=False))


def growing_source(
    folder: Path, rig: HandCalibration | UnknownCamera, every: int, rate_hz: float
) -> Source:
    """The images of a folder, by name, and those that come into it until Ctrl-C.

    A calibration that doesn't say for which size it is waits for the first image.
    """
    arrivals = _Arrivals(folder, every)
    load: Callable[[Path, int], Frame]
    if isinstance(rig, UnknownCamera):
        load, frame_id, place = partial(_photo_frame, rig), VIRTUAL_FRAME, rig.place(False)
    else:
        height, width = picture_size(next(iter(arrivals)))
        view = View(*rig.camera(width, height))
        load, frame_id, place = partial(image_frame, view), view.results_frame, None
    return Source(_Growing(arrivals, load), AnyName(), rate_hz, frame_id, place=place)


class AnyName:
    """Names of frames that can't be told beforehand."""

    def __contains__(self, name: object) -> bool:
        return True


@dataclass(frozen=True)
class _Growing:
    arrivals: "_Arrivals"
    load: Callable[[Path, int], Frame]

    def __iter__(self) -> Iterator[FrameReference]:
        for path in self.arrivals:
            stamp_ns = path.stat().st_mtime_ns
            yield FrameReference(path.stem, partial(self.load, path, stamp_ns))


@dataclass(frozen=True)
class _Arrivals:
    """The images of a folder as they are complete; there is no end."""

    folder: Path
    every: int

    def __iter__(self) -> Iterator[Path]:
        seen: set[Path] = set()
        while True:
            new = [path for path in images_in(self.folder) if path not in seen]
            for path in new:
                if _is_complete(path):
                    seen.add(path)
                    if (len(seen) - 1) % self.every == 0:
                        yield path
            if not new or new[-1] not in seen:
                time.sleep(_LOOK_EVERY_S)


def _is_complete(path: Path) -> bool:
    """Whether a picture is whole, or will never be: nobody has written to it for long."""
    try:
        if time.time() - path.stat().st_mtime > _GROWS_FOR_S:
            return True
        read_picture(path)
    except (DataError, OSError):
        return False
    return True


def _photo_frame(unknown: UnknownCamera, path: Path, stamp_ns: int) -> Frame:
    pixels = read_picture(path)
    height, width = pixels.shape[:2]
    return unknown.view(width, height, picture_exif(path)).frame(path.stem, stamp_ns, pixels)
