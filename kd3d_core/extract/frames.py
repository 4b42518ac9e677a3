"""Makes frames of messages: rectified images with their cameras, clouds and labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from kd3d_core.data.bag import BagReader, RawMessage
from kd3d_core.data.labels import Label, box_labels
from kd3d_core.errors import CalibrationError, DataError, ImageError, shown
from kd3d_core.extract.index import message_fault
from kd3d_core.extract.plan import FrameRef, ImageRef, MessageRef, RecordingPlan
from kd3d_core.geometry.camera import PinholeCamera, rectification_grid
from kd3d_core.geometry.camera_info import camera_from_info, camera_info_content
from kd3d_core.geometry.virtual_frame import camera_height
from kd3d_core.messages.types import CompressedImage, Image, ObjectBoxes, PointCloud

GONE = "not in the recording any more"
WITH_FAULT = "of a frame whose other messages can't be used"

Key = tuple[str, int, int]
"""A message: its topic, when it was recorded, and how many before it then."""


@dataclass(frozen=True, eq=False)
class MadeFrame:
    """A frame of one camera, as it is written.

    Attributes:
        ref: its messages.
        camera: number of the camera in the plan.
        image: `(H, W, 3)` uint8 RGB, rectified.
        model: the camera, in the frame of the points.
        points: `(N, 4)` float32; None without LiDAR.
        dropped: points of the cloud that aren't among these, by reason.
        labels: None if it has none, or none that can be used.
        label_fault: why its labels can't be used; empty if there is nothing wrong.
    """

    ref: FrameRef
    camera: int
    image: np.ndarray
    model: PinholeCamera
    points: np.ndarray | None = None
    dropped: Mapping[str, int] | None = None
    labels: tuple[Label, ...] | None = None
    label_fault: str = ""

    @property
    def height_m(self) -> float:
        """Of the camera over the ground, if that is where models expect it."""
        return camera_height(self.model.lidar_from_camera)

    @property
    def in_image(self) -> float | None:
        """Share of the points in front of the camera that fall into the image."""
        if self.points is None:
            return None
        points = self.points.astype(np.float64)
        _, depth = self.model.project(points)
        return float(self.model.sees(points).sum() / max((depth > 0).sum(), 1))


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


def make_frames(
    reader: BagReader, plan: RecordingPlan, refs: Sequence[FrameRef]
) -> Iterator[MadeFrame | FaultyFrame]:
    """The frames of each camera, in the order in which the recording completes them.

    Of the messages, only those are kept whose frame isn't complete yet.
    """
    if not refs:
        return
    users: dict[Key, list[int]] = {}
    for number, ref in enumerate(refs):
        for key in _keys(plan, ref):
            users.setdefault(key, []).append(number)
    lacking = [len(_keys(plan, ref)) for ref in refs]
    held: list[dict[Key, RawMessage]] = [{} for _ in refs]
    for key, raw in _read(reader, users):
        for number in users.get(key, ()):
            held[number][key] = raw
            if len(held[number]) == lacking[number]:
                yield from _make(reader, plan, refs[number], held[number])
                held[number], lacking[number] = {}, 0
    for number, ref in enumerate(refs):
        if lacking[number]:
            yield from _make(reader, plan, ref, held[number])


def _read(reader: BagReader, users: Mapping[Key, object]) -> Iterator[tuple[Key, RawMessage]]:
    """The messages between the first and the last that is wanted."""
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
        return  # the recording has changed since it was indexed: what lacks is named then


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


def _make(
    reader: BagReader, plan: RecordingPlan, ref: FrameRef, raws: Mapping[Key, RawMessage]
) -> Iterator[MadeFrame | FaultyFrame]:
    """A frame of each camera."""
    cloud = None
    if ref.scan is not None:
        try:
            cloud = _cloud(reader, raws.get(_key(plan.topics.points, ref.scan)))
        except _FaultError as fault:
            for camera in ref.images:
                yield FaultyFrame(ref, camera, "scan", str(fault))
            return
    boxes, label_fault = None, ""
    if ref.labels is not None:
        try:
            boxes = _boxes(reader, plan, raws.get(_key(plan.topics.labels, ref.labels)))
        except _FaultError as fault:
            label_fault = str(fault)
    for camera, image in ref.images.items():
        raw = raws.get(_key(plan.topics.cameras[camera].images, image.message))
        try:
            pixels, model = _picture(reader, plan, camera, image, raw)
        except _FaultError as fault:
            yield FaultyFrame(ref, camera, "image", str(fault))
            continue
        placement = plan.cameras[camera].detector_from_lidar
        points, dropped = (None, None) if cloud is None else _placed_points(cloud, placement)
        labels = None if boxes is None else _labels(boxes, placement, model)
        yield MadeFrame(ref, camera, pixels, model, points, dropped, labels, label_fault)


def _decoded(reader: BagReader, raw: RawMessage | None) -> object:
    if raw is None:
        raise _FaultError(GONE)
    try:
        return reader.decode(raw)
    except DataError as error:
        raise _FaultError(message_fault(error)) from None


def _cloud(reader: BagReader, raw: RawMessage | None) -> PointCloud:
    cloud = _decoded(reader, raw)
    assert isinstance(cloud, PointCloud)
    if not len(cloud.points):
        raise _FaultError("a cloud without points")
    return cloud


def _boxes(reader: BagReader, plan: RecordingPlan, raw: RawMessage | None) -> ObjectBoxes:
    boxes = _decoded(reader, raw)
    assert isinstance(boxes, ObjectBoxes)
    if boxes.frame_id.lstrip("/") != plan.points_frame:
        raise _FaultError(
            f"labels in the frame {shown(boxes.frame_id)!r}, not in {shown(plan.points_frame)!r}"
        )
    return boxes


def _picture(
    reader: BagReader, plan: RecordingPlan, camera: int, image: ImageRef, raw: RawMessage | None
) -> tuple[np.ndarray, PinholeCamera]:
    """The rectified image and its camera."""
    message = _decoded(reader, raw)
    assert isinstance(message, Image | CompressedImage)
    planned = plan.cameras[camera]
    try:
        pixels = message.rgb()
        height, width, _ = pixels.shape
        pose = planned.detector_from_lidar @ plan.poses[image.pose]
        info = planned.infos[image.info]
        model = camera_from_info(info, pose, planned.rectified, (width, height))
    except (ImageError, CalibrationError) as error:
        raise _FaultError(str(error)) from None
    if model.distortion is None:
        return pixels, model
    columns, rows = _rectification_maps(_LensKey(planned.infos[image.info], model))
    straight = cv2.remap(np.ascontiguousarray(pixels), columns, rows, cv2.INTER_LINEAR)
    return straight, replace(model, distortion=None)


class _LensKey:
    """A camera, equal to another of the same CameraInfo and size, wherever it is."""

    def __init__(self, info: object, camera: PinholeCamera) -> None:
        self.camera = camera
        self._key = camera_info_content(info), camera.width, camera.height

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _LensKey) and self._key == other._key


@lru_cache(maxsize=4)
def _rectification_maps(lens: _LensKey) -> tuple[np.ndarray, np.ndarray]:
    camera = lens.camera
    grid = (rectification_grid(camera) + 1) / 2
    return grid[..., 0] * (camera.width - 1), grid[..., 1] * (camera.height - 1)


def _placed_points(
    cloud: PointCloud, detector_from_lidar: np.ndarray
) -> tuple[np.ndarray, dict[str, int]]:
    """The points of a cloud in the frame of the output, without those that measure nothing."""
    finite = np.isfinite(cloud.points).all(1)
    zero = finite & ~cloud.points[:, :3].any(1)
    counts = {"not finite": int((~finite).sum()), "at zero": int(zero.sum())}
    points = cloud.points[finite & ~zero]
    if not np.array_equal(detector_from_lidar, np.eye(4)):
        rotation, shift = detector_from_lidar[:3, :3], detector_from_lidar[:3, 3]
        points[:, :3] = points[:, :3] @ rotation.T.astype(np.float32) + shift.astype(np.float32)
    return points, {reason: count for reason, count in counts.items() if count}


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
