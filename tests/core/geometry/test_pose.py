"""Poses as matrices, against SciPy and turns known by heart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.pose import matrix_from_pose, pose_from_matrix

RNG = np.random.default_rng(0)
UNIT = (0.0, 0.0, 0.0, 1.0)
coordinate = st.floats(-100, 100)


@pytest.mark.parametrize("quaternion", RNG.normal(size=(20, 4)).tolist())
def test_matrix_is_scipys(quaternion: list[float]) -> None:
    matrix = matrix_from_pose((1, 2, 3), quaternion)
    np.testing.assert_array_equal(matrix[:3, :3], Rotation.from_quat(quaternion).as_matrix())
    np.testing.assert_array_equal(matrix[:, 3], [1, 2, 3, 1])
    np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])


@pytest.mark.parametrize("rotation", Rotation.random(20, random_state=0).as_matrix())
def test_quaternion_is_scipys_with_positive_w(rotation: np.ndarray) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    _, quaternion = pose_from_matrix(matrix)
    expected = Rotation.from_matrix(rotation).as_quat()
    np.testing.assert_allclose(quaternion, expected * (1 if expected[3] >= 0 else -1))
    assert quaternion[3] >= 0


@given(
    st.tuples(coordinate, coordinate, coordinate),
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
)
def test_round_trip(translation: tuple[float, ...], quaternion: tuple[float, ...]) -> None:
    move, turn = pose_from_matrix(matrix_from_pose(translation, quaternion))
    np.testing.assert_array_equal(move, translation)
    assert np.linalg.norm(turn) == pytest.approx(1)
    assert abs(np.dot(turn, quaternion)) == pytest.approx(np.linalg.norm(quaternion))


def test_an_optical_frame() -> None:
    matrix = matrix_from_pose((0, 0, 0), (-0.5, 0.5, -0.5, 0.5))
    np.testing.assert_allclose(matrix[:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-15)


@pytest.mark.parametrize(
    ("translation", "quaternion", "reason"),
    [
        ((0, 0, np.nan), UNIT, "not finite"),
        ((np.inf, 0, 0), UNIT, "not finite"),
        ((0, 0, 0), (0, 0, np.nan, 1), "not finite"),
        ((0, 0, 0), (0, 0, 0, 0), "norm 0 instead of 1"),
        ((0, 0, 0), (0, 0, 0.001, 0.001), r"norm 0\.00141 instead of 1"),
        ((0, 0, 0), (0, 0, 0, 180), "norm 180 instead of 1"),
        ((0, 0, 0), (0, 0, 0, 1e300), r"norm 1e\+300 instead of 1"),
        ((0, -1e300, 0), UNIT, "farther than a million kilometres"),
    ],
)
def test_no_pose(
    translation: tuple[float, ...], quaternion: tuple[float, ...], reason: str
) -> None:
    with pytest.raises(CalibrationError, match=f"not a pose: .*{reason}"):
        matrix_from_pose(translation, quaternion)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (np.diag([1, 1, np.nan, 1]), "not finite"),
        (np.diag([1, 1, -1, 1]), "mirrors"),
        (np.diag([2, 2, 2, 1]), "scales"),
        (np.zeros((4, 4)), "scales"),
    ],
)
def test_no_rigid_transform(spoil: np.ndarray, reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        pose_from_matrix(spoil)
