"""The tree of static transforms, against transforms composed by hand."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.pose import matrix_from_pose, pose_from_matrix
from kd3d_core.geometry.static_frames import StaticFrames

coordinate = st.floats(-10, 10)


def pose(x: float, yaw: float) -> np.ndarray:
    """A turn about z, then a move along x of the parent."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[0, 3] = x
    return matrix


@pytest.fixture
def robot() -> StaticFrames:
    """base -> mast -> camera, and base -> lidar; another tree beside."""
    frames = StaticFrames()
    frames.add("base", "mast", pose(1, 0.5))
    frames.add("mast", "camera", pose(2, -0.2))
    frames.add("base", "lidar", pose(3, 0.1))
    frames.add("map", "odom", pose(4, 0))
    return frames


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("base", "camera", pose(1, 0.5) @ pose(2, -0.2)),
        ("camera", "base", np.linalg.inv(pose(1, 0.5) @ pose(2, -0.2))),
        ("lidar", "camera", np.linalg.inv(pose(3, 0.1)) @ pose(1, 0.5) @ pose(2, -0.2)),
        ("mast", "mast", np.eye(4)),
        ("/lidar", "/base", np.linalg.inv(pose(3, 0.1))),
    ],
)
def test_lookup(robot: StaticFrames, target: str, source: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(robot.lookup(target, source), expected, atol=1e-12)


def test_there_and_back(robot: StaticFrames) -> None:
    there, back = robot.lookup("lidar", "camera"), robot.lookup("camera", "lidar")
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [("radar", "camera", "unknown: radar"), ("odom", "camera", "nothing joins them")],
)
def test_unknown_way(robot: StaticFrames, target: str, source: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        robot.lookup(target, source)


def test_nothing_known() -> None:
    with pytest.raises(CalibrationError, match="frames on /tf_static: none"):
        StaticFrames().lookup("lidar", "camera")


@pytest.mark.parametrize(
    ("parent", "child"), [("", "a"), ("a", ""), ("a", "/a"), ("camera", "base")]
)
def test_refused(robot: StaticFrames, parent: str, child: str) -> None:
    before = robot.lookup("camera", "base")
    with pytest.raises(CalibrationError):
        robot.add(parent, child, np.eye(4))
    np.testing.assert_array_equal(robot.lookup("camera", "base"), before)


def test_what_was_known_is_replaced(robot: StaticFrames) -> None:
    robot.add("base", "lidar", pose(3, 0.2))
    np.testing.assert_allclose(robot.lookup("base", "lidar"), pose(3, 0.2))


def test_frames_are_looked_up_while_others_are_added() -> None:
    frames, done = StaticFrames(), threading.Event()

    def look() -> list[str]:
        wrong = []
        while not done.is_set():
            try:
                frames.lookup("base", "nowhere")
            except CalibrationError:
                continue
            except RuntimeError as error:
                wrong.append(str(error))
        return wrong

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(look)
        for number in range(2000):
            frames.add("base", f"sensor{number}", np.eye(4))
        done.set()
    assert not found.result()


@given(
    st.tuples(coordinate, coordinate, coordinate),
    st.tuples(coordinate, coordinate, coordinate, coordinate).filter(
        lambda q: np.linalg.norm(q) > 0.01
    ),
)
def test_pose_round_trip(translation: tuple[float, ...], quaternion: tuple[float, ...]) -> None:
    matrix = matrix_from_pose(translation, quaternion)
    move, turn = pose_from_matrix(matrix)
    np.testing.assert_allclose(move, translation)
    unit = np.array(quaternion) / np.linalg.norm(quaternion)
    assert abs(np.dot(unit, turn)) == pytest.approx(1)  # q and -q are the same turn


def test_quaternion_is_x_y_z_w() -> None:
    quarter_about_z = matrix_from_pose((0, 0, 0), (0, 0, np.sqrt(0.5), np.sqrt(0.5)))
    np.testing.assert_allclose(quarter_about_z[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (0, 0, np.nan, 1)])
def test_no_pose(quaternion: tuple[float, ...]) -> None:
    with pytest.raises(CalibrationError, match="not a pose"):
        matrix_from_pose((0, 0, 0), quaternion)
