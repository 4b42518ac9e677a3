"""The parts of `kd3d-bag` that need no ROS; the command itself is `kd3d_ros.bag`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.frames import frame_slice
from kd3d_core.cli.table import print_table
from kd3d_core.errors import DataError, Kd3dError, listed, shown
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    Message,
    PointCloud,
    Transforms,
)

if TYPE_CHECKING:
    from kd3d_core.data.kitti_drives import Drive


def from_kitti(
    root: Path,
    *,
    out: Path,
    rate: float | None = None,
    frames: str = ":",
    sequence: str = "",
    cameras: list[int] = [2],  # noqa: B006 - never changed; the parser wants a list
    overwrite: bool = False,
) -> None:
    """Write a bag from KITTI's data: the object layout, a raw drive, or a tracking sequence.

    Raw drives keep each sensor's time stamps, taken for UTC. Where there is GPS/IMU (oxts), /tf
    says how the car moved, from odom to base_link.

    Args:
        root: data set, or its `training` folder; or a raw drive, such as
            2011_09_26/2011_09_26_drive_0001_sync, with its calibration in the folder above.
        out: folder of the bag to write.
        rate: frames per second, of data without time stamps; default: 10, KITTI's own.
        frames: range of the frames, as a:b, counted from 0 and without b; all by default.
        sequence: sequence of the tracking set, such as 0001; default: the only one.
        cameras: cameras of raw drives and tracking sequences: 2, 3 (the right one), or both.
        overwrite: replace a bag of that name.
    """
    from kd3d_core.data.kitti import KittiDataset
    from kd3d_core.data.kitti_bag import write_drive_bag, write_kitti_bag
    from kd3d_core.progress import progress_of

    if rate is not None and not 1e-3 <= rate <= 1e6:
        raise Kd3dError(f"--rate {rate:g}: give frames per second, from 0.001 to 1000000")
    wanted = frame_slice(frames)
    root = root.expanduser()
    drive, timing = _drive(root, rate, sequence, cameras)
    if drive is not None:
        count = len(drive.images[cameras[0]])
        drive = drive.part(wanted)
        chosen = len(drive.images[cameras[0]])
        if not chosen:
            raise DataError(f"--frames {frames} selects none of the {count} frames in {root}")
        with progress_of(f"writing {out}", chosen) as step:
            counts = write_drive_bag(drive, out, overwrite, step)
    else:
        dataset = KittiDataset(root)
        names = dataset.names[wanted]
        if not names:
            raise DataError(
                f"--frames {frames} selects none of the {len(dataset)} frames in {root}"
            )
        chosen = len(names)
        with progress_of(f"writing {out}", chosen) as step:
            counts = write_kitti_bag(dataset.subset(names), out, rate or _KITTI_HZ, overwrite, step)
    written = ", ".join(f"{topic} {count}" for topic, count in counts.items())
    print(f"{out}: {chosen} frames, {timing}: {written}")


_KITTI_HZ = 10.0


def _drive(
    root: Path, rate: float | None, sequence: str, cameras: list[int]
) -> "tuple[Drive | None, str]":
    """The drive in a folder, if that isn't the object layout; and where its times come from."""
    from kd3d_core.data.kitti_drives import (
        is_raw_drive,
        read_raw_drive,
        read_tracking_sequence,
        tracking_sequences,
    )

    is_raw, sequences = is_raw_drive(root), tracking_sequences(root)
    if sequence and not sequences:
        raise Kd3dError(f"--sequence is for KITTI's tracking set; {root} is none")
    if (is_raw or sequences) and (not cameras or not {2, 3}.issuperset(cameras)):
        raise Kd3dError(f"--cameras {cameras}: give 2, 3 or both, which have colours")
    if is_raw:
        if rate is not None:
            raise Kd3dError(f"--rate {rate:g}: {root} has its own time stamps: leave it out")
        return read_raw_drive(root, tuple(cameras)), "with their own time stamps"
    timing = f"at {'' if rate else 'an assumed '}{rate or _KITTI_HZ:g} Hz, having no time stamps"
    if not sequences:
        return None, timing
    if sequence not in sequences and (sequence or len(sequences) > 1):
        raise Kd3dError(f"{root}: give --sequence, one of {listed(sequences)}")
    found = sequence or sequences[0]
    return read_tracking_sequence(root, found, rate or _KITTI_HZ, tuple(cameras)), timing


def info(bag: Path, *, check: bool = False) -> None:
    """Show a bag's topics and duration, and what training data from it would lack.

    Of a recording that was cut off or is damaged, what can be read of it, and up to where.

    Args:
        bag: rosbag2 folder, or an .mcap, .db3 or ROS 1 .bag file.
        check: read all messages, which finds damage in the middle of a file, too.
    """
    from kd3d_core.data.bag import BagReader

    with BagReader(bag) as reader:
        if check:
            read = Counter(raw.topic for raw in reader.messages() if not raw.damage)
        total = sum(topic.count for topic in reader.topics.values())
        print(f"{bag}: {total} messages in {reader.duration_s:.3f} s")
        rows = [("topic", "type", "messages", "Hz", "QoS")]
        for topic in reader.topics.values():
            rate = (topic.count - 1) / reader.duration_s if reader.duration_s > 0 else 0.0
            qos = f"{topic.qos.reliability}, {topic.qos.durability}"
            hertz = f"{rate:.1f}" if rate > 0 else "-"
            name, kind = shown(topic.name, 120) or "(no name)", shown(topic.type, 120)
            messages = str(topic.count)
            if check and read[topic.name] != topic.count:
                messages = f"{read[topic.name]} of {messages}"
            rows.append((name, kind, messages, hertz, qos))
        print_table(rows)
        for topic in reader.topics.values():
            if topic.type == PointCloud.ros_type and topic.count:
                print(f"points: {shown(topic.name)}: {reader.cloud_units(topic.name)}")
        if reader.stopped is not None:
            print(f"damaged: {reader.stopped}")
        for name, (reason, count) in reader.foreign.items():
            print(f"left out: {shown(name)} ({count}): {reason}")
        if reader.duration_s > _LONGEST_S:
            years = reader.duration_s / _LONGEST_S
            print(f"odd: from the first to the last stamp it is {years:.1f} years: some are wrong")
        lacking = _lacking({topic.type for topic in reader.topics.values() if topic.count})
        if not any(name.endswith("tf_static") for name in reader.topics):
            moving = any(topic.type == Transforms.ros_type for topic in reader.topics.values())
            lacking.append(_NO_TF + (_ON_TF if moving else ""))
    for line in lacking:
        print(f"missing: {line}")


_NEEDED: dict[str, tuple[type[Message], ...]] = {
    "images (sensor_msgs/Image or CompressedImage): nothing to detect in": (Image, CompressedImage),
    "camera calibration (sensor_msgs/CameraInfo)": (CameraInfo,),
    "LiDAR points (sensor_msgs/PointCloud2): nothing to learn from": (PointCloud,),
}
_NO_TF = "extrinsics (/tf_static): where camera and LiDAR sit"
_ON_TF = "; what /tf says of them is used between its stamps"
_LONGEST_S = 365.25 * 86400


def _lacking(types: set[str]) -> list[str]:
    return [
        text
        for text, any_of in _NEEDED.items()
        if types.isdisjoint(kind.ros_type for kind in any_of)
    ]
