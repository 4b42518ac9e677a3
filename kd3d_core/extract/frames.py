"""Makes frames of messages: rectified images with their cameras, clouds and labels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagReader, RawMessage
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.data.labels import Label
from kd3d_core.data.point_files import FARTHEST_M
from kd3d_core.errors import CalibrationError, DataError, ImageError, shown
from kd3d_core.extract.calibration import Rectifier
from kd3d_core.extract.index import message_fault
from kd3d_core.extract.motion import MOVED, MOVED_WHOLE, MotionCorrection
from kd3d_core.extract.plan import FrameRef, ImageRef, MessageRef, RecordingPlan
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.camera_info import camera_from_info
from kd3d_core.geometry.virtual_frame import camera_height
from kd3d_core.messages.pixels import PixelsError
from kd3d_core.messages.types import CompressedImage, Image, ObjectBoxes, PointCloud
from kd3d_core.runtime.bag_transforms import BagTransforms

GONE = "not in the recording any more"
WITH_FAULT = "of a frame whose other messages can't be used"

_SAMPLE_POINTS = 4_000

Key = tuple[str, int, int]
"""A message: its topic, when it was recorded, and how many before it then."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The points of a frame.

    Attributes:
        points: `(N, 4)` float32 x, y, z in metres and intensity.
        dropped: points of the cloud that aren't among these, by reason.
        motion: what was done about the LiDAR's motion during the sweep; empty if nothing was to be.
    """

    points: np.ndarray
    dropped: Mapping[str, int]
    motion: str = ""


@dataclass(frozen=True, eq=False)
class MadeFrame:
    """A frame of one camera, as it is written.

    Attributes:
        ref: its messages.
        camera: number of the camera in the plan.
        image: `(H, W, 3)` uint8 RGB, rectified.
        model: the camera, in the frame of the points.
        scan: None without LiDAR.
        labels: None if it has none, or none that can be used.
        label_fault: why its labels can't be used; empty if there is nothing wrong.
    """

    ref: FrameRef
    camera: int
    image: np.ndarray
    model: PinholeCamera
    scan: Scan | None = None
    labels: tuple[Label, ...] | None = None
    label_fault: str = ""

    @property
    def height_m(self) -> float:
        """Of the camera over the ground, if that is where models expect it."""
        return camera_height(self.model.lidar_from_camera)

    @property
    def in_image(self) -> float | None:
        """Share of the points in front of the camera that fall into the image, of a sample."""
        if self.scan is None:
            return None
        step = len(self.scan.points) // _SAMPLE_POINTS + 1
        points = self.scan.points[::step].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = self.model.project(points)[1] > 0
        return float(self.model.sees(points).sum() / max(ahead.sum(), 1))


@dataclass(frozen=True)
class FaultyFrame:
    """A frame of one camera that can't be made.

    Attributes:
        ref: its messages.
        camera: number of the camera in the plan.
        part: whose message it is that can't be used: `image` or `scan`.
        reason: why not.
    """

    ref: FrameRef
    camera: int
    part: str
    reason: str


class _FaultError(Exception):
    """A part of a frame can't be used: says why."""


class FrameMaker:
    """Makes the frames of a recording's plan; a context manager."""

    def __init__(self, plan: RecordingPlan, unpacked: Path | None = None) -> None:
        """`DataError` if the recording can't be read; `unpacked` as `BagReader` has it."""
        self._plan = plan
        self._rectify = Rectifier()
        self._model = lru_cache(maxsize=16)(self._model_of)  # most frames have one and the same
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(BagReader(plan.path, unpacked))
        self._motion: MotionCorrection | None = None
        if plan.correct_motion:
            by_record = plan.clock == "record"
            transforms = BagTransforms(Path(plan.path), by_record, unpacked)
            self._motion = MotionCorrection(self._stack.enter_context(transforms))

    def __enter__(self) -> "FrameMaker":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def frames(self, refs: Sequence[FrameRef]) -> Iterator[MadeFrame | FaultyFrame]:
        """The frames of each camera, in the order in which the recording completes them.

        Of the messages, only those are kept whose frame isn't complete yet.
        """
        users: dict[Key, list[int]] = {}
        lacking = []
        for number, ref in enumerate(refs):
            keys = _keys(self._plan, ref)
            lacking.append(len(keys))
            for key in keys:
                users.setdefault(key, []).append(number)
        held: list[dict[Key, RawMessage]] = [{} for _ in refs]
        for key, raw in _read(self._reader, users):
            for number in users.get(key, ()):
                held[number][key] = raw
                if len(held[number]) == lacking[number]:
                    yield from self._make(refs[number], held[number])
                    held[number], lacking[number] = {}, 0
        for number, ref in enumerate(refs):
            if lacking[number]:
                yield from self._make(ref, held[number])

    def _make(
        self, ref: FrameRef, raws: Mapping[Key, RawMessage]
    ) -> Iterator[MadeFrame | FaultyFrame]:
        """A frame of each camera."""
        topics = self._plan.topics
        cloud = None
        if ref.scan is not None:
            try:
                cloud = self._cloud(raws.get(_key(topics.points, ref.scan)))
            except _FaultError as fault:
                for camera in ref.images:
                    yield FaultyFrame(ref, camera, "scan", str(fault))
                return
        boxes, label_fault = None, ""
        if ref.labels is not None:
            try:
                boxes = self._boxes(raws.get(_key(topics.labels, ref.labels)))
            except _FaultError as fault:
                label_fault = str(fault)
        for camera, image in ref.images.items():
            raw = raws.get(_key(topics.cameras[camera].images, image.message))
            try:
                pixels, model = self._picture(camera, image, raw)
            except _FaultError as fault:
                yield FaultyFrame(ref, camera, "image", str(fault))
                continue
            placement = self._plan.cameras[camera].detector_from_lidar
            scan = None if cloud is None else self._scan(cloud, ref, image, placement)
            if scan is not None and not len(scan.points):
                yield FaultyFrame(ref, camera, "scan", "a cloud whose points are all too far away")
                continue
            labels = None
            if boxes is not None:
                change = self._change(ref, image, scan)
                labels = _labels(boxes, placement @ change, model)
            yield MadeFrame(ref, camera, pixels, model, scan, labels, label_fault)

    def _decoded(self, raw: RawMessage | None) -> object:
        if raw is None:
            raise _FaultError(GONE)
        try:
            return self._reader.decode(raw)
        except DataError as error:
            raise _FaultError(message_fault(error)) from None

    def _cloud(self, raw: RawMessage | None) -> PointCloud:
        cloud = self._decoded(raw)
        assert isinstance(cloud, PointCloud)
        if not len(cloud.points):
            raise _FaultError("a cloud without points")
        return cloud

    def _boxes(self, raw: RawMessage | None) -> ObjectBoxes:
        boxes = self._decoded(raw)
        assert isinstance(boxes, ObjectBoxes)
        found, wanted = boxes.frame_id.lstrip("/"), self._plan.points_frame
        if found != wanted:
            raise _FaultError(f"labels in the frame {shown(found)!r}, not in {shown(wanted)!r}")
        return boxes

    def _picture(
        self, camera: int, image: ImageRef, raw: RawMessage | None
    ) -> tuple[np.ndarray, PinholeCamera]:
        """The rectified image and its camera."""
        message = self._decoded(raw)
        assert isinstance(message, Image | CompressedImage)
        try:
            if isinstance(message, Image):
                message = message.with_bits(self._plan.image_bits)
            pixels = message.rgb()
            height, width, _ = pixels.shape
            model = self._model(camera, image.info, image.pose, (width, height))
        except PixelsError as error:
            is_dim = error.kind == "unusable_pixels" and isinstance(message, Image)
            hint = "; --image-bits says how many bits a camera uses" if is_dim else ""
            raise _FaultError(f"{error}{hint}") from None
        except (ImageError, CalibrationError) as error:
            raise _FaultError(str(error)) from None
        return self._rectify(pixels, model)

    def _model_of(self, camera: int, info: int, pose: int, size: tuple[int, int]) -> PinholeCamera:
        planned = self._plan.cameras[camera]
        detector_from_camera = planned.detector_from_lidar @ self._plan.poses[pose]
        return camera_from_info(planned.infos[info], detector_from_camera, planned.rectified, size)

    def _scan(
        self, cloud: PointCloud, ref: FrameRef, image: ImageRef, placement: np.ndarray
    ) -> Scan:
        """The points as the image's time has them, in the frame of the output."""
        points, motion = cloud.points, ""
        if self._motion is not None and ref.scan is not None:
            scan, to_ns = ref.scan, image.message.stamp_ns
            points, motion = self._motion.correct(cloud, scan.stamp_ns, to_ns, scan.recorded_ns)
        points = _placed(points, placement)
        counts = {"not finite": cloud.not_finite, "at zero": cloud.zero, "too far": 0}
        if np.abs(points).max(initial=0) >= FARTHEST_M:  # of the intensity, too: it is at most 1
            is_near = (np.abs(points[:, :3]) < FARTHEST_M).all(1)
            points, counts["too far"] = points[is_near], int((~is_near).sum())
        dropped = {reason: count for reason, count in counts.items() if count}
        return Scan(points, dropped, motion)

    def _change(self, ref: FrameRef, image: ImageRef, scan: Scan | None) -> np.ndarray:
        """The 4x4 that takes boxes from the time of the scan to that of the image, as points go."""
        change = None
        has_moved = scan is not None and scan.motion in (MOVED, MOVED_WHOLE)
        if self._motion is not None and ref.scan is not None and has_moved:
            change = self._motion.pose_change(
                self._plan.points_frame,
                ref.scan.stamp_ns,
                image.message.stamp_ns,
                ref.scan.recorded_ns,
            )
        return np.eye(4) if change is None else change


def _read(reader: BagReader, users: Mapping[Key, object]) -> Iterator[tuple[Key, RawMessage]]:
    """The messages between the first and the last that is wanted."""
    if not users:
        return
    topics = {topic for topic, _, _ in users}
    times = [recorded_ns for _, recorded_ns, _ in users]
    latest: dict[str, tuple[int, int]] = {}
    try:
        for raw in reader.messages(topics, min(times), max(times) + 1):
            before_ns, repeat = latest.get(raw.topic, (-1, 0))
            repeat = repeat + 1 if raw.stamp_ns == before_ns else 0
            latest[raw.topic] = raw.stamp_ns, repeat
            yield (raw.topic, raw.stamp_ns, repeat), raw
    except DataError:
        return  # the recording has changed since it was planned: what lacks is named then


def _keys(plan: RecordingPlan, ref: FrameRef) -> list[Key]:
    topics = plan.topics
    keys = [
        _key(topics.cameras[camera].images, image.message) for camera, image in ref.images.items()
    ]
    keys += [_key(topics.points, ref.scan)] if ref.scan is not None else []
    keys += [_key(topics.labels, ref.labels)] if ref.labels is not None else []
    return keys


def _key(topic: str, message: MessageRef) -> Key:
    return topic, message.recorded_ns, message.repeat


def _placed(points: np.ndarray, detector_from_lidar: np.ndarray) -> np.ndarray:
    """Points `(N, 4)` in the frame of the output."""
    if np.array_equal(detector_from_lidar, np.eye(4)):
        return points
    rotation, shift = detector_from_lidar[:3, :3], detector_from_lidar[:3, 3]
    placed = points.copy()
    placed[:, :3] = points[:, :3] @ rotation.T.astype(np.float32) + shift.astype(np.float32)
    return placed


def _labels(
    boxes: ObjectBoxes, detector_from_lidar: np.ndarray, camera: PinholeCamera
) -> tuple[Label, ...]:
    """KITTI's labels of the boxes that the camera sees."""
    placed = boxes.boxes.copy()
    rotation, shift = detector_from_lidar[:3, :3], detector_from_lidar[:3, 3]
    if len(placed):
        placed[:, :3] = placed[:, :3] @ rotation.T + shift
        placed[:, 6] += np.arctan2(rotation[1, 0], rotation[0, 0])
    found = box_labels(placed, boxes.scores.tolist(), boxes.names, camera)
    return tuple(replace(label, score=None) for label in found)
