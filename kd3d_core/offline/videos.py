"""Frames from videos, cameras and streams."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kd3d_core.data.kitti_bag import START_NS
from kd3d_core.data.video import Video, VideoFrame, is_live, public_name
from kd3d_core.errors import CalibrationError, DataError
from kd3d_core.frames import Frame
from kd3d_core.offline.image_files import HandCalibration
from kd3d_core.offline.photos import AnyName, UnknownCamera
from kd3d_core.offline.source import FrameReference, Source, View


def video_source(word: str, rig: HandCalibration | UnknownCamera, wanted: slice) -> Source:
    """Frames of a video, named by it and their number; of a camera or stream the newest ones.

    A video that is damaged or cut off ends with a frame that can't be loaded and says so.

    Raises:
        DataError: it can't be opened, or `wanted` counts from its end.
        CalibrationError: its pixels aren't square, which needs a calibration.
    """
    with Video(word) as video:
        view, aspect = _view(video, rig), video.pixel_aspect
        count, rate_hz, has_end = video.approximate_count, video.rate_hz, video.seconds > 0
        name = video.name
    if aspect != 1.0 and isinstance(rig, UnknownCamera):
        raise CalibrationError(
            f"{name}: its pixels are {aspect:.2f} times as wide as high: give --calib or "
            "--intrinsics for frames of its size, or save it with square pixels"
        )
    place = rig.place(one_camera=True) if isinstance(rig, UnknownCamera) else None
    stem, step = _stem(word), wanted.step or 1
    if has_end:
        if min(wanted.start or 0, wanted.stop or 0) < 0:
            raise DataError(f"{name}: its frames are counted from its beginning, without minus")
        expected = len(range(count)[wanted])
        frames = _VideoFrames(word, view, stem, wanted)
        rate_hz /= step
        names: VideoNames | AnyName = VideoNames(stem)
        return Source(frames, names, rate_hz, view.results_frame, count=expected, place=place)
    if wanted.start or wanted.stop:
        raise DataError(f"{name} has no end: leave out --frames, and end it with Ctrl-C")
    live = _LiveFrames(word, view, stem, step)
    return Source(live, AnyName(), rate_hz, view.results_frame, place=place, is_live=True)


@dataclass(frozen=True)
class VideoNames:
    """The names that frames of a video may have."""

    stem: str

    def __contains__(self, name: object) -> bool:
        return re.fullmatch(rf"{re.escape(self.stem)}_\d{{6,}}", str(name)) is not None


@dataclass(frozen=True, eq=False)
class _VideoFrames:
    word: str
    view: View
    stem: str
    wanted: slice

    def __iter__(self) -> Iterator[FrameReference]:
        number = 0
        with Video(self.word) as video:
            try:
                for each in video.frames(self.wanted):
                    number = each.number
                    yield _reference(self.view, self.stem, each, START_NS)
            except DataError as error:
                yield FrameReference(f"{self.stem}_{number + 1:06d}", partial(_refuse, error))


@dataclass(frozen=True, eq=False)
class _LiveFrames:
    word: str
    view: View
    stem: str
    every: int

    def __iter__(self) -> Iterator[FrameReference]:
        due = 0
        with Video(self.word) as video:
            for each in video.newest_frames():
                if each.number >= due:
                    due = each.number + self.every
                    yield _reference(self.view, self.stem, each, 0)


def _view(video: Video, rig: HandCalibration | UnknownCamera) -> View:
    if isinstance(rig, HandCalibration):
        return View(*rig.camera(video.width, video.height))
    return rig.view(video.width, video.height)


def _reference(view: View, stem: str, each: VideoFrame, start_ns: int) -> FrameReference:
    name = f"{stem}_{each.number:06d}"
    return FrameReference(name, partial(view.frame, name, start_ns + each.stamp_ns, each.image))


def _refuse(error: DataError) -> Frame:
    raise error


def _stem(word: str) -> str:
    """What files of its frames are called after."""
    if not is_live(word):
        return Path(word).stem
    return re.sub(r"\W+", "_", public_name(word).split("://")[-1]).strip("_") or "camera"
