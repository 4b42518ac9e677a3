"""Camera calibrations as ROS keeps them on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kd3d_core.errors import CalibrationError
from kd3d_core.messages.types import CameraInfo

_MATRICES = {
    "k": ("camera_matrix", 9),
    "d": ("distortion_coefficients", None),
    "r": ("rectification_matrix", 9),
    "p": ("projection_matrix", 12),
}


def read_camera_yaml(path: Path | str) -> CameraInfo:
    """The camera of a YAML file as `camera_calibration` writes and drivers read it.

    Returns:
        Its CameraInfo, with stamp 0 and no `frame_id`.

    Raises:
        CalibrationError: names the file and the key that is missing or wrong.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise CalibrationError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise CalibrationError(f"{path}: no camera calibration: `key: value` lines are expected")
    try:
        matrices: Any = {name: _matrix(values, *entry) for name, entry in _MATRICES.items()}
        return CameraInfo(
            stamp_ns=0,
            frame_id="",
            height=_pixels(values, "image_height"),
            width=_pixels(values, "image_width"),
            distortion_model=str(_value(values, "distortion_model")),
            **matrices,
        )
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None


def _value(values: dict[str, Any], key: str) -> Any:
    if key not in values:
        raise CalibrationError(f"{key} is missing: a file of ROS's camera_calibration has it")
    return values[key]


def _pixels(values: dict[str, Any], key: str) -> int:
    value = _value(values, key)
    if not isinstance(value, int) or value <= 0:
        raise CalibrationError(f"{key} is {value!r}, not a number of pixels")
    return value


def _matrix(values: dict[str, Any], key: str, size: int | None) -> np.ndarray:
    entry = _value(values, key)
    numbers = entry.get("data") if isinstance(entry, dict) else None
    try:
        matrix = np.array(numbers, np.float64).reshape(-1)
    except (TypeError, ValueError):
        matrix = np.full(1, np.nan)
    if not np.isfinite(matrix).all() or size not in (None, matrix.size):
        wanted = "numbers" if size is None else f"{size} numbers"
        raise CalibrationError(f"{key}.data must be a row of {wanted}")
    return matrix
