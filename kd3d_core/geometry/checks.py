"""Checks that intrinsics and extrinsics share: each raises a `CalibrationError` of one line."""

from typing import Any

import numpy as np

from kd3d_core.errors import CalibrationError

_LARGEST_SKEW = 0.01


def finite(name: str, value: Any, shape: tuple[int, ...] | None) -> np.ndarray:
    """`value`, in row-major order, as a read-only float64 array of finite numbers.

    `shape` is what they are reshaped to; None keeps the shape.

    >>> finite("K", [500, 0, 320, 0, 500, 240, 0, 0, 1], (3, 3))[0].tolist()
    [500.0, 0.0, 320.0]
    """
    array = np.array(value, np.float64)
    if shape is not None:
        if array.size != np.prod(shape):
            raise CalibrationError(f"{name} has {array.size} numbers, {np.prod(shape)} are needed")
        array = array.reshape(shape)
    if not np.isfinite(array).all():
        raise CalibrationError(f"{name} has values that are not finite: {array.tolist()}")
    array.setflags(write=False)
    return array


def check_intrinsics(name: str, matrix: np.ndarray) -> None:
    """Both focal lengths of a 3x3 or 3x4 matrix must be positive, and its pixels rectangular.

    >>> check_intrinsics("K", np.diag([500.0, 0.0, 1.0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    kd3d_core.errors.CalibrationError: K's focal lengths are 500 and 0: they must be positive; ...
    """
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise CalibrationError(
            f"{name}'s focal lengths are {matrix[0, 0]:g} and {matrix[1, 1]:g}: "
            "they must be positive; calibrate the camera or fix its CameraInfo"
        )
    if max(abs(matrix[0, 1]), abs(matrix[1, 0])) > _LARGEST_SKEW * matrix[0, 0]:
        raise CalibrationError(
            f"{name}[0, 1] is {matrix[0, 1]:g} and {name}[1, 0] is {matrix[1, 0]:g}: cameras have "
            f"0 there, up to {_LARGEST_SKEW:.0%} of the focal length is possible; calibrate the "
            "camera or fix its CameraInfo"
        )


def check_rotation(name: str, rotation: np.ndarray) -> None:
    """A 3x3 matrix must be orthonormal to 1e-3, and no mirror.

    >>> check_rotation("R", np.diag([1.0, 1.0, -1.0]))
    Traceback (most recent call last):
        ...
    kd3d_core.errors.CalibrationError: R is no rotation: it is 0 off orthonormal
    """
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > 1e-3 or np.linalg.det(rotation) < 0:
        raise CalibrationError(f"{name} is no rotation: it is {error:.2g} off orthonormal")
