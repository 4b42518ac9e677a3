"""A bag as a rig would have recorded it, from a folder in KITTI's layout."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagWriter
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.labels import Label, describe_unusable, label_objects, usable
from kd3d_core.geometry.lens import Distortion
from kd3d_core.messages.qos import LATCHED
from kd3d_core.messages.types import (
    CameraInfo,
    Image,
    Message,
    ObjectBoxes,
    PointCloud,
    Transform,
    Transforms,
)

CAMERA_FRAME = "camera_optical"
"""Rectified camera frame of KITTI's labels, to which `camera_info`'s P belongs."""
LIDAR_FRAME = "velodyne"

IMAGE_TOPIC = "/camera/image_raw"
INFO_TOPIC = "/camera/camera_info"
POINTS_TOPIC = "/velodyne_points"
TRUTH_TOPIC = "/ground_truth"
TF_TOPIC = "/tf_static"

START_NS = 1_317_042_272_000_000_000
"""Stamp of the first frame, on KITTI's first day: the same folder always makes the same bag."""

_log = logging.getLogger(__name__)

_MESSAGES: dict[str, type[Message]] = {
    TF_TOPIC: Transforms,
    INFO_TOPIC: CameraInfo,
    IMAGE_TOPIC: Image,
    POINTS_TOPIC: PointCloud,
    TRUTH_TOPIC: ObjectBoxes,
}


def write_kitti_bag(
    dataset: KittiDataset,
    out: Path,
    rate_hz: float = 10.0,
    overwrite: bool = False,
    on_frame: Callable[[], None] = lambda: None,
    distortion: Distortion | None = None,
) -> dict[str, int]:
    """Write image, camera info, points, label boxes and the static transform of every frame.

    Images, camera infos and calibrations are needed; points and labels are written for the frames
    that have them. All messages of a frame carry one stamp. Where the calibration changes between
    frames, so does the transform, in a new message of `/tf_static`. Labels without a sound 3D box
    are left out, with a warning that counts them.

    Args:
        distortion: lens of the images, if they are raw ones and not KITTI's rectified ones.

    Returns:
        Messages written, by topic.

    Raises:
        DataError: a frame lacks what is needed, or a file is damaged; no bag is left then.
    """
    dataset.require(("image_2", "calib"))
    absent = set()
    if not (dataset.has("velodyne") or dataset.has("velodyne_reduced")):
        absent.add(POINTS_TOPIC)
    if not dataset.has("label_2"):
        absent.add(TRUTH_TOPIC)
    with BagWriter(out, overwrite) as writer:
        for topic, message_type in _MESSAGES.items():
            if topic not in absent:
                qos = LATCHED if topic == TF_TOPIC else None
                writer.add_topic(topic, message_type.ros_type, qos)
        pose: np.ndarray | None = None
        flaws: Counter[str] = Counter()
        for index, frame in enumerate(dataset):
            labels = frame.labels() if "label_2" in frame.files else None
            flaws += Counter(each.flaw for each in labels or () if each.is_object and each.flaw)
            stamp_ns = START_NS + round(index * 1e9 / rate_hz)
            for topic, message in _messages(frame, labels, stamp_ns, pose, distortion):
                writer.write(topic, stamp_ns, message)
                if isinstance(message, Transforms):
                    pose = message.transforms[0].parent_from_child
            on_frame()
        if flaws:
            _log.warning("%s: labels left out: %s", dataset.root, describe_unusable(flaws))
        return dict(writer.counts)


def _messages(
    frame: KittiFrame,
    labels: list[Label] | None,
    stamp_ns: int,
    known_pose: np.ndarray | None,
    distortion: Distortion | None,
) -> Iterator[tuple[str, Message]]:
    pixels = frame.image()
    camera = replace(frame.camera(pixels.shape[:2]), distortion=distortion)
    pose = camera.lidar_from_camera
    if known_pose is None or not np.array_equal(pose, known_pose):
        yield TF_TOPIC, Transforms((Transform(stamp_ns, LIDAR_FRAME, CAMERA_FRAME, pose),))
    yield INFO_TOPIC, CameraInfo.of_camera(camera, stamp_ns, CAMERA_FRAME)
    yield IMAGE_TOPIC, Image.from_rgb(pixels, stamp_ns, CAMERA_FRAME)
    if frame.has_lidar:
        yield POINTS_TOPIC, PointCloud(stamp_ns, LIDAR_FRAME, frame.points())
    if labels is not None:
        yield TRUTH_TOPIC, label_objects(usable(labels), pose, stamp_ns, LIDAR_FRAME)
