"""Makes the plan of a recording: reads it through once and decides which messages make a frame."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kd3d_core.data.bag import BagReader
from kd3d_core.data.bag.choice import CameraTopics
from kd3d_core.errors import CalibrationError, DataError, shown
from kd3d_core.extract.accounts import info_tally, other_tallies, topic_reports
from kd3d_core.extract.candidates import NO_POSE, TOO_NEAR, UNWANTED, Candidates
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.index import RecordingIndex, index_recording
from kd3d_core.extract.placement import detector_from_lidar, placement_doubts
from kd3d_core.extract.places import Places, Travel, require_transforms
from kd3d_core.extract.plan import FrameRef, ImageRef, MessageRef, PlannedCamera, RecordingPlan
from kd3d_core.extract.summary import CameraSet
from kd3d_core.extract.sync import FAR, TAKEN, Times, match
from kd3d_core.extract.topics import RecordingTopics
from kd3d_core.geometry.camera_info import camera_info_doubts, looks_rectified
from kd3d_core.geometry.virtual_frame import VIRTUAL_FRAME
from kd3d_core.runtime.bag_transforms import BagTransforms

_DEFAULT_OFFSET_S = 0.05  # where a camera's period can't be told
_SAME_STAMP_S = 1e-3  # labels have the stamp of their scan, but for rounding


@dataclass(eq=False)
class _Moment:
    """Messages that may make a frame: numbers of a scan, labels, and an image for each camera."""

    images: dict[int, int]
    scan: int | None = None
    labels: int | None = None


class _Used(NamedTuple):
    """Numbers of the messages that are in a camera's frames."""

    images: set[int]
    scans: set[int]
    labels: set[int]


class _Planner:
    def __init__(
        self,
        reader: BagReader,
        topics: RecordingTopics,
        names: Mapping[str, str],
        config: ExtractConfig,
        index: RecordingIndex,
        transforms: BagTransforms,
    ) -> None:
        self.reader, self.topics, self.names = reader, topics, names
        self.config, self.index = config, index
        self.images = [self._candidates(camera.images) for camera in topics.cameras]
        self.scans = self._candidates(topics.points) if topics.points else None
        self.labels = self._candidates(topics.labels) if topics.labels else None
        self.pose_error = ""
        self.max_offsets = [self._max_offset_s(images) for images in self.images]
        # Why messages are in no frame: of images and of scans, by camera and number.
        self.image_fates: list[dict[int, str]] = [{} for _ in topics.cameras]
        self.scan_fates: list[dict[int, str]] = [{} for _ in topics.cameras]
        self.used: list[_Used] = [_Used(set(), set(), set()) for _ in topics.cameras]
        infos = [index.infos[camera.infos] for camera in topics.cameras]
        self.places = Places(transforms, config, self.images, infos, self.scans)
        self.rectified = [self._is_rectified(camera) for camera in topics.cameras]

    def _candidates(self, topic: str) -> Candidates:
        count = self.reader.topics[topic].count
        found = Candidates(self.index.topics[topic], count, self.config.clock)
        if len(found.index) and not len(found.kept):
            raise DataError(
                f"{self.reader.path}: no message on {shown(topic)} has a stamp in its header: "
                "give --clock record, to take the times when they were recorded"
            )
        return found

    def _max_offset_s(self, images: Candidates) -> float:
        if self.config.max_offset_s is not None:
            return self.config.max_offset_s
        steps = np.diff(np.sort(images.stamps[images.kept]))
        return float(np.median(steps)) / 2e9 if len(steps) else _DEFAULT_OFFSET_S

    def _is_rectified(self, camera: CameraTopics) -> bool:
        if self.config.rectified is not None:
            return self.config.rectified
        infos = self.index.infos[camera.infos]
        return all(looks_rectified(info, camera.images) for _, info in infos)

    def moments(self) -> list[_Moment]:
        """What may make a frame, in the order of the recording."""
        if self.scans is None:
            moments = [moment for camera in range(len(self.images)) for moment in self._of(camera)]
        else:
            moments = self._of_scans(self.scans)
        if self.labels is not None:
            self._add_labels(moments, self.labels)
        return moments

    def _of(self, camera: int) -> list[_Moment]:
        kept = self.images[camera].kept.tolist()
        self.image_fates[camera] |= dict.fromkeys(kept, UNWANTED)
        return [_Moment({camera: number}) for number in kept[:: self.config.every]]

    def _of_scans(self, scans: Candidates) -> list[_Moment]:
        wanted = scans.kept[:: self.config.every]
        moments = [_Moment({}, number) for number in wanted.tolist()]
        for camera, images in enumerate(self.images):
            limit_ns = round(self.max_offsets[camera] * 1e9)
            nearest, lost = match(scans.times(wanted), images.times(images.kept), limit_ns)
            fates = dict.fromkeys(scans.kept.tolist(), UNWANTED)
            fates |= dict.fromkeys(wanted.tolist(), FAR)
            fates |= dict.fromkeys(wanted[lost].tolist(), TAKEN)
            self.scan_fates[camera] = fates
            for moment, found in zip(moments, nearest.tolist(), strict=True):
                if found >= 0:
                    moment.images[camera] = int(images.kept[found])
        return [moment for moment in moments if moment.images]

    def _add_labels(self, moments: list[_Moment], labels: Candidates) -> None:
        if not moments or not len(labels.kept):
            return
        anchors = [self._anchor(moment) for moment in moments]
        times = Times(
            np.array([anchor.stamp_ns for anchor in anchors]),
            np.array([anchor.recorded_ns for anchor in anchors]),
        )
        by_record = self.config.clock == "record"
        limit_s = max(self.max_offsets) if by_record else _SAME_STAMP_S
        found, _ = match(times, labels.times(labels.kept), round(limit_s * 1e9))
        for moment, number in zip(moments, found.tolist(), strict=True):
            moment.labels = int(labels.kept[number]) if number >= 0 else None

    def _anchor(self, moment: _Moment) -> MessageRef:
        """The message that gives a frame its time."""
        if moment.scan is not None:
            assert self.scans is not None
            return self.scans.ref(moment.scan)
        camera, number = next(iter(moment.images.items()))
        return self.images[camera].ref(number)

    def frames(self, moments: list[_Moment], first: int) -> list[FrameRef]:
        """The moments that become frames, numbered from `first` on."""
        frames: list[FrameRef] = []
        numbers = [first] * len(self.images)
        travel = [Travel(self.places.transforms, self.config.min_motion_m) for _ in numbers]
        for moment in moments:
            images = self._placed(moment)
            traveller = travel[0 if self.scans is not None else next(iter(moment.images))]
            if not images or not self._is_wanted(traveller, moment):
                continue
            number = max(numbers[camera] for camera in images)
            # Scans are numbered, so that frames of several cameras have the name of their scan.
            for camera in images if self.scans is None else range(len(numbers)):
                numbers[camera] = number + 1
            frames.append(self._frame(f"{number:06d}", images, moment))
            self._note_used(moment, images)
        return frames

    def _is_wanted(self, travel: Travel, moment: _Moment) -> bool:
        """Whether the robot has moved far enough for a frame."""
        reason = TOO_NEAR
        try:
            if travel.has_moved(self._frame_of(moment), self._anchor(moment)):
                return True
        except CalibrationError as error:
            self.pose_error = self.pose_error or str(error)
            reason = NO_POSE
        self._give_up(moment, reason)
        return False

    def _note_used(self, moment: _Moment, cameras: Collection[int]) -> None:
        for camera in cameras:
            self.used[camera].images.add(moment.images[camera])
            if moment.scan is not None:
                self.used[camera].scans.add(moment.scan)
            if moment.labels is not None:
                self.used[camera].labels.add(moment.labels)

    def _frame(self, name: str, images: dict[int, ImageRef], moment: _Moment) -> FrameRef:
        scan = labels = None
        if moment.scan is not None and self.scans is not None:
            scan = self.scans.ref(moment.scan)
        if moment.labels is not None and self.labels is not None:
            labels = self.labels.ref(moment.labels)
        return FrameRef(name, images, scan, labels)

    def _frame_of(self, moment: _Moment) -> str:
        """The coordinate frame that moves with the robot."""
        if moment.scan is not None and self.scans is not None:
            return self.scans.frame_id(moment.scan)
        return self.places.camera_frame(*next(iter(moment.images.items())))

    def _placed(self, moment: _Moment) -> dict[int, ImageRef]:
        """The images of a moment, as far as it is known where their cameras were."""
        placed = {}
        for camera, number in moment.images.items():
            try:
                pose = self.places.number_of_pose(camera, number, moment.scan)
            except CalibrationError as error:
                self.pose_error = self.pose_error or str(error)
                self._give_up(_Moment({camera: number}, moment.scan), NO_POSE)
                continue
            info = self.places.number_of_info(camera, number)
            placed[camera] = ImageRef(self.images[camera].ref(number), info, pose)
        return placed

    def _give_up(self, moment: _Moment, reason: str) -> None:
        for camera, number in moment.images.items():
            self.image_fates[camera][number] = reason
            if moment.scan is not None:
                self.scan_fates[camera][moment.scan] = reason

    def plan(self, first: int) -> RecordingPlan:
        """The plan, whose frames are numbered from `first` on."""
        frames = self.frames(self.moments(), first)
        moves = any(not topic.endswith("tf_static") for topic in self.topics.transforms)
        if not frames and self.pose_error:
            raise DataError(f"{self.reader.path}: {self.pose_error}; or give --extrinsics FILE")
        return RecordingPlan(
            path=str(self.reader.path),
            topics=self.topics,
            points_frame=self._points_frame(),
            cameras=tuple(self._camera(camera, frames) for camera in range(len(self.images))),
            poses=tuple(self.places.poses),
            frames=tuple(frames),
            clock=self.config.clock,
            image_bits=self.config.image_bits,
            correct_motion=self.config.correct_motion and self.scans is not None and moves,
            start_ns=self.reader.start_ns,
            end_ns=self.reader.end_ns,
            reports=topic_reports(self.reader, self.index),
            others=other_tallies(self.reader, self.topics, self.config),
            stopped=self.index.stopped,
            doubts=self._doubts(),
        )

    def _points_frame(self) -> str:
        if self.scans is None:
            return VIRTUAL_FRAME
        return next(iter(self.scans.index.frames), "")

    def _doubts(self) -> tuple[str, ...]:
        if self.scans is None:
            return ("there is no LiDAR: images and calibrations only",)
        units = self.reader.cloud_units(self.topics.points)
        return (f"the points on {shown(self.topics.points)} have {units}",)

    def _camera(self, camera: int, frames: list[FrameRef]) -> PlannedCamera:
        topics, used = self.topics.cameras[camera], self.used[camera]
        infos = tuple(info for _, info in self.index.infos[topics.infos])
        tallies = {
            topics.images: self.images[camera].tally(self.image_fates[camera], used.images),
            topics.infos: info_tally(self.reader, self.index, topics.infos),
        }
        if self.scans is not None:
            tallies[self.topics.points] = self.scans.tally(self.scan_fates[camera], used.scans)
        if self.labels is not None:
            tallies[self.topics.labels] = self.labels.tally({}, used.labels)
        poses = [frame.images[camera].pose for frame in frames if camera in frame.images]
        placement = np.eye(4)
        doubts: tuple[str, ...] = ()
        if poses and self.scans is not None:
            pose = self.places.poses[poses[0]]
            placement = detector_from_lidar(pose, self.config.camera_height_m)
            doubts = placement_doubts(placement @ pose)
        if infos:
            size = infos[0].width, infos[0].height
            rectified = self.rectified[camera]
            doubts += camera_info_doubts(infos[0], size, rectified, topics.images)
        return PlannedCamera(
            CameraSet(self.names[topics.images], topics),
            self.rectified[camera],
            infos,
            placement,
            tallies,
            None if self.scans is None else self.max_offsets[camera],
            doubts,
        )


def plan_recording(
    reader: BagReader,
    topics: RecordingTopics,
    names: Mapping[str, str],
    config: ExtractConfig,
    first: int,
    on_message: Callable[[], None] = lambda: None,
) -> RecordingPlan:
    """The plan of a recording.

    Args:
        reader: of the recording, which is read through once.
        topics: to read.
        names: of the cameras' folders, by image topic.
        config: settings.
        first: number of the first frame.
        on_message: called for each message.

    Raises:
        DataError: nothing says when or with which camera its images were taken.
        CalibrationError: nothing says where its cameras were.
    """
    by_record = config.clock == "record"
    with BagTransforms(reader.path, by_record, reader.unpacked) as transforms:
        require_transforms(reader, topics, config, transforms)
        index = index_recording(reader, topics, on_message)
        for camera in topics.cameras:
            if not index.infos[camera.infos]:
                raise DataError(
                    f"{reader.path}: no CameraInfo on {shown(camera.infos)} can be read, so there "
                    f"is no calibration for {shown(camera.images)}: name another with --camera-info"
                )
        return _Planner(reader, topics, names, config, index, transforms).plan(first)
