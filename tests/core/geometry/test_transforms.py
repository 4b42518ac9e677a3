"""Transforms between frames, fixed and moving, against transforms composed by hand."""

import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.pose import matrix_from_pose, pose_from_matrix
from kd3d_core.geometry.transforms import TransformBuffer, interpolated

coordinate = st.floats(-10, 10)
S = 10**9


def pose(x: float, yaw: float) -> np.ndarray:
    """A turn about z, then a move along x of the parent."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[0, 3] = x
    return matrix


@pytest.fixture
def robot() -> TransformBuffer:
    """base -> mast -> camera, and base -> lidar; another tree beside."""
    frames = TransformBuffer()
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
@pytest.mark.parametrize("stamp_ns", [None, 0, 10**18])
def test_fixed_frames(
    robot: TransformBuffer, target: str, source: str, expected: np.ndarray, stamp_ns: int | None
) -> None:
    np.testing.assert_allclose(robot.lookup(target, source, stamp_ns), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        ("radar", "camera", "from 'camera' to 'radar': 'radar' unknown; known frames: base, cam"),
        ("odom", "camera", "nothing joins them"),
    ],
)
def test_no_way(robot: TransformBuffer, target: str, source: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        robot.lookup(target, source)


def test_nothing_known() -> None:
    with pytest.raises(CalibrationError, match="'lidar' and 'camera' unknown; known frames: none"):
        TransformBuffer().lookup("lidar", "camera")


def test_names_are_cut_where_they_are_shown() -> None:
    frames = TransformBuffer()
    for number in range(4000):
        frames.add(f"{number}{'a' * 1000}", f"{number}b", np.eye(4))
    with pytest.raises(CalibrationError) as error:
        frames.lookup("c" * 10**6, "b")
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
    ("parent", "child"), [("", "a"), ("a", ""), ("a", "/a"), ("camera", "base")]
)
@pytest.mark.parametrize("stamp_ns", [None, 0])
def test_refused(robot: TransformBuffer, parent: str, child: str, stamp_ns: int | None) -> None:
    before = robot.lookup("camera", "base")
    with pytest.raises(CalibrationError):
        robot.add(parent, child, np.eye(4), stamp_ns)
    np.testing.assert_array_equal(robot.lookup("camera", "base"), before)


def test_what_was_known_is_replaced(robot: TransformBuffer) -> None:
    robot.add("base", "lidar", pose(3, 0.2))
    np.testing.assert_allclose(robot.lookup("base", "lidar"), pose(3, 0.2))
    robot.add("lidar", "radar", pose(0, 0), 1 * S)
    robot.add("lidar", "radar", pose(5, 0), 1 * S)
    np.testing.assert_allclose(robot.lookup("lidar", "radar", 1 * S), pose(5, 0))


# Moving frames


@pytest.fixture
def rig(robot: TransformBuffer) -> TransformBuffer:
    """The robot drives on the map for two seconds from 10 s on, and turns by 0.4 in each."""
    for second in (10, 12, 11):  # in no order
        robot.add("map", "base", pose(second, 0.4 * second), second * S)
    return robot


@pytest.mark.parametrize("second", [10, 10.25, 11, 11.5, 12])
def test_between_stamps(rig: TransformBuffer, second: float) -> None:
    expected = pose(second, 0.4 * second) @ pose(1, 0.5) @ pose(2, -0.2)
    found = rig.lookup("map", "camera", round(second * S))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    back = rig.lookup("camera", "map", round(second * S))
    np.testing.assert_allclose(found @ back, np.eye(4), atol=1e-12)


def test_rotations_take_the_shorter_arc() -> None:
    frames = TransformBuffer()
    frames.add("map", "base", pose(0, np.pi - 0.1), 0)
    frames.add("map", "base", pose(0, -np.pi + 0.1), 2)
    np.testing.assert_allclose(frames.lookup("map", "base", 1), pose(0, np.pi), atol=1e-12)


@pytest.mark.parametrize("second", [9.999, 12.001])
def test_no_extrapolation(rig: TransformBuffer, second: float) -> None:
    words = rf"'base' moves in 'map' and is known from 10.0{{9}} to 12.0{{9}} s, not at {second}"
    with pytest.raises(CalibrationError, match=rf"'camera' to 'map': {words}"):
        rig.lookup("map", "camera", round(second * S))
    # What lies beside the way may be unknown.
    assert rig.lookup("lidar", "camera", round(second * S)).shape == (4, 4)


def test_a_time_is_needed_on_moving_ways_only(rig: TransformBuffer) -> None:
    assert rig.lookup("lidar", "camera").shape == (4, 4)
    with pytest.raises(CalibrationError, match="'base' moves in 'map', so a time is needed"):
        rig.lookup("map", "camera")


def test_fixed_wins_over_moving(rig: TransformBuffer) -> None:
    with pytest.raises(CalibrationError, match="moves a frame that is fixed"):
        rig.add("base", "lidar", pose(0, 0), 11 * S)
    rig.add("map", "base", pose(7, 0))
    np.testing.assert_allclose(rig.lookup("map", "base", 99 * S), pose(7, 0))


def test_a_frame_that_changes_its_parent() -> None:
    frames = TransformBuffer()
    frames.add("room", "floor", pose(0, 0))
    frames.add("room", "shelf", pose(1, 0))
    for second, parent in enumerate(["floor", "floor", "shelf", "shelf"]):
        frames.add(parent, "box", pose(10 * second, 0), second * S)
    assert frames.lookup("room", "box", S // 2)[0, 3] == 5
    assert frames.lookup("room", "box", 5 * S // 2)[0, 3] == 26
    with pytest.raises(CalibrationError, match=r"'box' goes from 'floor' to 'shelf' between 1.000"):
        frames.lookup("room", "box", 3 * S // 2)


def test_frames_that_change_places() -> None:
    """First `b` is in `a`, then in `c` and `a` in it; in between, each is in the other."""
    frames = TransformBuffer()
    frames.add("a", "b", pose(1, 0), 0)
    frames.add("a", "b", pose(1, 0), 10)
    frames.add("c", "b", pose(2, 0), 20)
    frames.add("b", "a", pose(3, 0), 5)
    frames.add("b", "a", pose(3, 0), 20)
    assert frames.lookup("c", "a", 20)[0, 3] == 5
    with pytest.raises(CalibrationError, match="close a circle"):
        frames.lookup("c", "a", 7)


def test_history_is_bounded() -> None:
    frames = TransformBuffer(history_ns=2 * S)
    for second in range(100):
        frames.add("map", "base", pose(second, 0), second * S)
    assert frames.lookup("map", "base", 97 * S)[0, 3] == 97
    with pytest.raises(CalibrationError, match=r"known from 97.0+ to 99.0+ s"):
        frames.lookup("map", "base", 96 * S)


def test_time_may_begin_anew() -> None:
    frames = TransformBuffer(history_ns=2 * S)
    for second in (100, 101, 10**9, 102, 5, 6):  # one stamp was wrong, then a bag began again
        frames.add("map", "base", pose(second, 0), second * S)
    assert frames.lookup("map", "base", 11 * S // 2)[0, 3] == 5.5
    with pytest.raises(CalibrationError, match=r"from 5.0+ to 6.0+ s"):
        frames.lookup("map", "base", 101 * S)


def test_frames_are_looked_up_while_others_are_added() -> None:
    frames, done = TransformBuffer(), threading.Event()
    interval = sys.getswitchinterval()

    def look() -> list[str]:
        wrong = []
        while not done.is_set():
            try:
                frames.lookup("base", "nowhere", 0)
            except CalibrationError:
                continue
            except RuntimeError as error:
                wrong.append(str(error))
        return wrong

    sys.setswitchinterval(1e-5)  # so that either is interrupted in the middle of it
    try:
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(look)
            for number in range(4000):
                frames.add("base", f"sensor{number}", np.eye(4), number)
            done.set()
    finally:
        sys.setswitchinterval(interval)
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


def test_a_pose_takes_little_memory() -> None:
    frames, count = TransformBuffer(), 20_000
    tracemalloc.start()
    for number in range(count):
        frames.add("map", "base", pose(number, 0), number)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 150 * count


def test_ancestors_are_those_of_the_time(rig: TransformBuffer) -> None:
    assert rig.ancestors("/camera", 11 * S) == ["mast", "base", "map"]
    assert rig.ancestors("camera", 13 * S) == ["mast", "base"]
    assert rig.ancestors("unknown", 11 * S) == []
    assert [name for name in ("camera", "mast", "base", "map") if rig.moves(name)] == ["base"]


def test_what_is_forgotten_may_be_said_by_another(rig: TransformBuffer) -> None:
    rig.forget("base")
    rig.forget("camera")  # is fixed, and stays so
    assert rig.ancestors("camera", 11 * S) == ["mast", "base"]
    rig.add("odom", "base", pose(1, 0), 11 * S)
    assert rig.ancestors("camera", 11 * S) == ["mast", "base", "odom", "map"]


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.01, 1.0, 3.0, np.pi - 1e-6])
def test_interpolation_as_scipy_does_it(angle: float) -> None:
    axis = np.array([0.6, -0.48, 0.64])
    first = matrix_from_pose([1, 2, 3], [0.1, 0.2, 0.3, 0.9])
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(angle * axis).as_matrix()
    turn[:3, 3] = 4, 0, -2
    second = first @ turn
    turns = Rotation.from_matrix(np.stack([first[:3, :3], second[:3, :3]]))
    for share in (0.0, 0.3, 1.0):
        found = interpolated(first, second, share)
        expected = Slerp([0, 1], turns)(share).as_matrix()
        np.testing.assert_allclose(found[:3, :3], expected, atol=1e-8)
        moved = (1 - share) * first[:3, 3] + share * second[:3, 3]
        np.testing.assert_allclose(found[:3, 3], moved, atol=1e-12)
