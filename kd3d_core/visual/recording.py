"""A recording, frame by frame: the images of one bag with the results that another bag holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagReader
from kd3d_core.data.messages import CameraInfo, Image, ObjectBoxes, PointCloud, Transforms
from kd3d_core.errors import DataError
from kd3d_core.geometry.camera import PinholeCamera


@dataclass(frozen=True)
class Results:
    """What was detected in one image.

    Attributes:
        points: `(N, 4)` pseudo-LiDAR.
        found: the boxes.
        arrived_ns: when the boxes were recorded.
    """

    points: np.ndarray
    found: ObjectBoxes
    arrived_ns: int


def read_results(bag: Path, points_topic: str, detections_topic: str) -> dict[int, Results]:
    """Results by header stamp, of the images for which the bag holds both points and boxes."""
    points: dict[int, np.ndarray] = {}
    found: dict[int, tuple[ObjectBoxes, int]] = {}
    with BagReader(bag) as reader:
        for raw in reader.messages((points_topic, detections_topic)):
            message = reader.decode(raw)
            if isinstance(message, PointCloud):
                points[message.stamp_ns] = message.points
            elif isinstance(message, ObjectBoxes):
                found[message.stamp_ns] = (message, raw.stamp_ns)
    return {
        stamp: Results(points[stamp], *found[stamp]) for stamp in sorted(found) if stamp in points
    }


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """An image and what was detected in it.

    Attributes:
        stamp_ns: header stamp of both.
        seconds: the same, counted from the start of the bag.
        image: `(H, W, 3)` uint8 RGB.
        camera: of the image, with the results' frame as detector frame.
        results: points and boxes.
        truth: the bag's labels; None where it has none for this image.
    """

    stamp_ns: int
    seconds: float
    image: np.ndarray
    camera: PinholeCamera
    results: Results
    truth: ObjectBoxes | None


def recorded_frames(bag: Path, results: dict[int, Results]) -> Iterator[RecordedFrame]:
    """Each image in `bag` that has results, with them.

    Args:
        bag: images, camera infos, `/tf_static` with the camera as child of the results' frame or
            the other way round, and if it has labels, `/ground_truth`.
        results: by header stamp.

    Raises:
        DataError: the camera's frame and the results' aren't joined, or labels are in another.
    """
    info: CameraInfo | None = None
    poses: dict[tuple[str, str], np.ndarray] = {}
    waiting: dict[int, Image] = {}
    truths = _truths(bag)
    with BagReader(bag) as reader:
        kinds = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage")
        topics = [topic.name for topic in reader.topics.values() if topic.type in kinds]
        for raw in reader.messages(topics):
            message = reader.decode(raw)
            if isinstance(message, Transforms):
                for tf in message.transforms:
                    poses[tf.parent, tf.child] = tf.parent_from_child
                    poses[tf.child, tf.parent] = np.linalg.inv(tf.parent_from_child)
            elif isinstance(message, CameraInfo):
                info = message
            elif isinstance(message, Image) and message.stamp_ns in results:
                waiting[message.stamp_ns] = message
            # Messages of one stamp come in any order.
            for stamp in [s for s in waiting if info is not None and s <= info.stamp_ns]:
                image, result, truth = waiting.pop(stamp), results[stamp], truths.get(stamp)
                assert info is not None
                frames = (result.found.frame_id, image.frame_id)
                if frames not in poses:
                    raise DataError(f"{bag}: /tf_static doesn't join {frames[0]} and {frames[1]}")
                if truth is not None and truth.frame_id != frames[0]:
                    raise DataError(f"{bag}: labels are in {truth.frame_id}, not in {frames[0]}")
                yield RecordedFrame(
                    stamp,
                    (stamp - reader.start_ns) / 1e9,
                    image.rgb(),
                    PinholeCamera.from_camera_info(info, poses[frames]),
                    result,
                    truth,
                )


def _truths(bag: Path, topic: str = "/ground_truth") -> dict[int, ObjectBoxes]:
    with BagReader(bag) as reader:
        if topic not in reader.topics:
            return {}
        messages = [reader.decode(raw) for raw in reader.messages((topic,))]
        return {boxes.stamp_ns: boxes for boxes in messages if isinstance(boxes, ObjectBoxes)}
