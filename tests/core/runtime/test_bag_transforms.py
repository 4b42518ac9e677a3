"""A bag's transforms at times in any order, against the motion that was recorded."""

from pathlib import Path

import numpy as np
import pytest

from kd3d_core.data.bag import BagWriter
from kd3d_core.errors import CalibrationError
from kd3d_core.messages.types import Message, Odometry, Transform, Transforms
from kd3d_core.runtime.bag_transforms import BagTransforms

S = 10**9


def at(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def tf(parent: str, child: str, x: float, time_s: float = 0) -> Transforms:
    return Transforms((Transform(round(time_s * S), parent, child, at(x)),))


def write(path: Path, *messages: tuple[float, str, Message]) -> Path:
    with BagWriter(path) as writer:
        for time_s, topic, message in messages:
            if topic not in writer.counts:
                writer.add_topic(topic, message.ros_type)
            writer.write(topic, round(time_s * S), message)
    return path


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute at 2 m/s, told ten times a second; the lidar's place is told after 5 s."""
    moves = [(t, "/tf", tf("odom", "base", 2 * t, t)) for t in np.arange(0, 60, 0.1).tolist()]
    static = [
        (0.0, "/tf_static", tf("base", "camera", 0.5)),
        (5.0, "/tf_static", tf("base", "lidar", 1.0)),
    ]
    path = tmp_path_factory.mktemp("bags") / "drive"
    return write(path, *sorted([*moves, *static], key=lambda item: item[0]))


@pytest.mark.parametrize("times_s", [[1, 2, 3], [50, 1, 30, 29.5, 22, 45, 44, 36, 8, 0.25]])
def test_times_in_any_order(drive: Path, times_s: list[float]) -> None:
    with BagTransforms(drive) as transforms:
        for time_s in times_s:
            stamp = round(time_s * S)
            found = transforms.lookup("odom", "camera", stamp, stamp)
            assert found[0, 3] == pytest.approx(2 * time_s + 0.5), time_s


def test_some_seconds_are_kept(drive: Path) -> None:
    with BagTransforms(drive) as transforms:
        for time_s in range(59):
            transforms.follow(time_s * S)
        assert transforms.buffer.lookup("odom", "base", 50 * S)[0, 3] == pytest.approx(100)
        with pytest.raises(CalibrationError, match=r"known from 49\.\d+ to 59\.\d+ s, not at 48"):
            transforms.buffer.lookup("odom", "base", 48 * S)


def test_a_fixed_transform_that_comes_later_is_waited_for(drive: Path) -> None:
    with BagTransforms(drive) as transforms:
        assert transforms.lookup("lidar", "camera", S, S)[0, 3] == -0.5


def test_no_extrapolation(drive: Path) -> None:
    with BagTransforms(drive) as transforms, pytest.raises(CalibrationError, match=r"not at 61\."):
        transforms.lookup("odom", "camera", 61 * S, 59 * S)


def test_frames_that_something_joins_are_accepted_whenever_it_does(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bag",
        (1, "/tf_static", tf("mast", "/camera", 1)),
        (2, "/odom", Odometry(tf("world", "base", 1, 2).transforms[0])),
        (30, "/tf", tf("base", "mast", 1, 30)),
        (40, "/tf_static", tf("truck", "trailer", 1)),
    )
    with BagTransforms(path) as transforms:
        for target, source in (("base", "camera"), ("/world", "camera"), ("mast", "mast")):
            transforms.require_path(target, source)
        words = (
            r"bag: no transform leads from the camera's frame 'camera' to the LiDAR's 'trailer'; "
            r"/tf_static, /tf and odometry have base -> mast, mast -> camera, truck -> trailer, "
            r"world -> base: give a file with --extrinsics$"
        )
        with pytest.raises(CalibrationError, match=words):
            transforms.require_path("trailer", "camera")
        with pytest.raises(CalibrationError, match="'velodyne'"):
            transforms.require_path("velodyne", "camera")


def test_a_bag_without_transforms_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", (1, "/tf_static", Transforms(())))
    with BagTransforms(path) as transforms, pytest.raises(CalibrationError, match="have none:"):
        transforms.require_path("lidar", "camera")


def test_the_first_of_two_odometries_is_taken(tmp_path: Path) -> None:
    messages = []
    for time_s in (1.0, 2.0, 3.0):
        for topic, x in (("/wheels", time_s), ("/visual", 100.0)):
            odometry = Odometry(tf("odom", "base", x, time_s).transforms[0])
            messages.append((time_s + 0.1 * (topic == "/visual"), topic, odometry))
    with BagTransforms(write(tmp_path / "bag", *messages)) as transforms:
        assert transforms.lookup("odom", "base", 3 * S // 2, 2 * S)[0, 3] == 1.5


def test_stamps_may_be_the_recordings(tmp_path: Path) -> None:
    """The robot's clock is 50 s behind that of the recorder."""
    moves = [(t, "/tf", tf("odom", "base", t, t - 50)) for t in (100.0, 101.0)]
    path = write(tmp_path / "bag", *moves)
    with BagTransforms(path) as transforms:
        assert transforms.lookup("odom", "base", 101 * S // 2, 101 * S)[0, 3] == 100.5
    with BagTransforms(path, by_record=True) as transforms:
        assert transforms.lookup("odom", "base", 201 * S // 2, 101 * S)[0, 3] == 100.5
