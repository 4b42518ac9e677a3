"""A bag as a rig would have recorded it, from a folder in KITTI's layout, or one of its drives.

Frames are those of REP 105, where the drive has GPS/IMU: `/tf` has `odom` -> `base_link` (the unit;
`odom` is where it first was), `/tf_static` has `base_link` -> `velodyne` -> `camera_optical`. Where
only the LiDAR's own poses are known, as of rendered drives, `/tf` has `odom` -> `velodyne`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagWriter
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.kitti_drives import START_NS, Drive
from kd3d_core.data.label_boxes import label_objects
from kd3d_core.data.labels import Label, describe_unusable, usable
from kd3d_core.data.point_files import KITTI_POINTS, read_points
from kd3d_core.errors import DataError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.lens import Distortion
from kd3d_core.messages.pictures import picture_size, read_picture
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

ODOM_FRAME, BASE_FRAME = "odom", "base_link"
MOVING_TOPIC = "/tf"

_log = logging.getLogger(__name__)

# Of the cameras of a drive.
_CAMERA_TOPICS = {
    2: (IMAGE_TOPIC, INFO_TOPIC),
    3: ("/camera_right/image_raw", "/camera_right/camera_info"),
}

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
    poses: Sequence[np.ndarray] | None = None,
) -> dict[str, int]:
    """Write image, camera info, points, label boxes and the static transform of every frame.

    Images, camera infos and calibrations are needed; points and labels are written for the frames
    that have them. All messages of a frame carry one stamp. Where the calibration changes between
    frames, so does the transform, in a new message of `/tf_static`. Labels without a sound 3D box
    are left out, with a warning that counts them.

    Args:
        distortion: lens of the images, if they are raw ones and not KITTI's rectified ones.
        poses: 4x4 `odom_from_lidar` of each frame, for `/tf`; None: it isn't known.

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
        if poses is not None:
            writer.add_topic(MOVING_TOPIC, Transforms.ros_type)
        pose: np.ndarray | None = None
        flaws: Counter[str] = Counter()
        for index, frame in enumerate(dataset):
            labels = frame.labels() if "label_2" in frame.files else None
            flaws += Counter(each.flaw for each in labels or () if each.is_object and each.flaw)
            stamp_ns = START_NS + round(index * 1e9 / rate_hz)
            if poses is not None:
                move = Transform(stamp_ns, ODOM_FRAME, LIDAR_FRAME, poses[index])
                writer.write(MOVING_TOPIC, stamp_ns, Transforms((move,)))
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


def write_drive_bag(
    drive: Drive,
    out: Path,
    overwrite: bool = False,
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Write the recordings of a drive's sensors, each with its own stamps, and the transforms.

    Messages lie in the order of their stamps. Labels without a sound 3D box are left out, with a
    warning that counts them.

    Returns:
        Messages written, by topic.

    Raises:
        DataError: a file is damaged or missing; no bag is left then.
        CalibrationError: as `drive.camera` has it.
    """
    cameras = {
        key: drive.camera(key, picture_size(images[0][1])) for key, images in drive.images.items()
    }
    main = next(iter(cameras.values()))
    events = sorted(_events(drive, cameras), key=lambda event: event[0])
    with BagWriter(out, overwrite) as writer:
        writer.add_topic(TF_TOPIC, Transforms.ros_type, LATCHED)
        writer.write(TF_TOPIC, events[0][0], _mounting(events[0][0], drive, main))
        for stamp_ns, topic, make in events:
            message = make()
            if topic not in writer.counts:
                writer.add_topic(topic, message.ros_type)
            writer.write(topic, stamp_ns, message)
            if topic == IMAGE_TOPIC:
                on_frame()
        flaws = Counter(
            label.flaw
            for labels in drive.labels.values()
            for label in labels
            if label.is_object and label.flaw
        )
        if flaws:
            _log.warning("%s: labels left out: %s", out, describe_unusable(flaws))
        return dict(writer.counts)


def _events(
    drive: Drive, cameras: dict[int, PinholeCamera]
) -> Iterator[tuple[int, str, Callable[[], Message]]]:
    """When a message is to be written, on which topic, and what makes it."""
    for key, images in drive.images.items():
        camera = cameras[key]
        image_topic, info_topic = _CAMERA_TOPICS[key]
        for stamp_ns, path in images:
            yield (
                stamp_ns,
                info_topic,
                partial(CameraInfo.of_camera, camera, stamp_ns, CAMERA_FRAME),
            )
            yield stamp_ns, image_topic, partial(_drive_image, path, camera, stamp_ns)
    for stamp_ns, path in drive.clouds:
        yield stamp_ns, POINTS_TOPIC, partial(_drive_cloud, path, stamp_ns)
    pose = next(iter(cameras.values())).lidar_from_camera
    for stamp_ns, labels in drive.labels.items():
        yield (
            stamp_ns,
            TRUTH_TOPIC,
            partial(label_objects, usable(labels), pose, stamp_ns, LIDAR_FRAME),
        )
    for stamp_ns, moved in drive.poses:
        move = Transform(stamp_ns, ODOM_FRAME, BASE_FRAME, moved)
        yield stamp_ns, MOVING_TOPIC, partial(Transforms, (move,))


def _mounting(stamp_ns: int, drive: Drive, camera: PinholeCamera) -> Transforms:
    """Where the sensors sit."""
    transforms = [Transform(stamp_ns, LIDAR_FRAME, CAMERA_FRAME, camera.lidar_from_camera)]
    if drive.lidar_from_imu is not None:
        base_from_lidar = np.linalg.inv(drive.lidar_from_imu)
        transforms.insert(0, Transform(stamp_ns, BASE_FRAME, LIDAR_FRAME, base_from_lidar))
    return Transforms(tuple(transforms))


def _drive_image(path: Path, camera: PinholeCamera, stamp_ns: int) -> Image:
    pixels = read_picture(path)
    if pixels.shape[:2] != (camera.height, camera.width):
        raise DataError(
            f"{path}: it has {pixels.shape[1]} x {pixels.shape[0]} pixels, the first image of its "
            f"camera {camera.width} x {camera.height}"
        )
    return Image.from_rgb(pixels, stamp_ns, CAMERA_FRAME)


def _drive_cloud(path: Path, stamp_ns: int) -> PointCloud:
    return PointCloud(stamp_ns, LIDAR_FRAME, read_points(path, KITTI_POINTS))
