"""PointLayout: how the points of a data set's files are laid out; the layouts that are known."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kd3d_core.errors import DataError

_TYPES = ("float32", "float64", "uint8", "uint16", "uint32", "int8", "int16", "int32")
_AXES = ("x", "y", "z")
_KITTI_COLUMNS = (*_AXES, "intensity")


@dataclass(frozen=True)
class PointLayout:
    """How a data set's points are laid out.

    Attributes:
        columns: name and type of each number of a point.
        intensity_max: the intensity that becomes 1.
    """

    columns: tuple[tuple[str, str], ...] = tuple((name, "float32") for name in _KITTI_COLUMNS)
    intensity_max: float = 1.0

    @classmethod
    def from_meta(cls, value: Any, where: str) -> "PointLayout":
        """The layout that `meta.json` says under `points`; `DataError` says where it is wrong."""
        if not isinstance(value, dict) or not value.keys() <= {"columns", "intensity_max"}:
            raise DataError(f"{where}: `points` must hold columns, intensity_max or both")
        columns = value.get("columns", dict(cls.columns))
        if not isinstance(columns, dict) or not {*_AXES} <= columns.keys():
            raise DataError(f"{where}: points.columns must hold the types of x, y, z and others")
        if wrong := [name for name, kind in columns.items() if kind not in _TYPES]:
            raise DataError(
                f"{where}: points.columns.{wrong[0][:40]} must be one of {', '.join(_TYPES)}"
            )
        most = value.get("intensity_max", 1.0)
        if isinstance(most, bool) or not isinstance(most, int | float) or not 0 < most < math.inf:
            raise DataError(f"{where}: points.intensity_max must be a number above 0")
        return cls(tuple(columns.items()), float(most))

    def to_meta(self) -> dict[str, Any]:
        """What `from_meta` reads, without what is KITTI's."""
        meta: dict[str, Any] = {}
        if self.columns != KITTI_POINTS.columns:
            meta["columns"] = dict(self.columns)
        if self.intensity_max != KITTI_POINTS.intensity_max:
            meta["intensity_max"] = self.intensity_max
        return meta

    @cached_property
    def dtype(self) -> np.dtype:
        """Structured type of a point."""
        return np.dtype([(name, np.dtype(kind).newbyteorder("<")) for name, kind in self.columns])

    def decode(self, data: bytes) -> np.ndarray:
        """`(N, 4)` float32 x, y, z, intensity as they stand in a file's bytes; 0 without one."""
        if self.columns == KITTI_POINTS.columns:
            return np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, 4)
        stored = np.frombuffer(data, self.dtype)
        points = np.zeros((len(stored), 4), np.float32)
        names = [name for name, _ in self.columns]
        with np.errstate(over="ignore", invalid="ignore"):  # what doesn't fit isn't finite, then
            for column, name in enumerate(_KITTI_COLUMNS):
                if name in names:
                    points[:, column] = stored[name]
        return points

    def __str__(self) -> str:
        kinds = dict.fromkeys(kind for _, kind in self.columns)
        parts = (
            f"{', '.join(name for name, other in self.columns if other == kind)} as {kind}"
            for kind in kinds
        )
        limit = "" if self.intensity_max == 1 else f", intensity up to {self.intensity_max:g}"
        return " and ".join(parts) + limit


KITTI_POINTS = PointLayout()


def _layout(columns: str, kind: str = "float32") -> PointLayout:
    """Columns as `x y ring:uint16`; `kind` is the type of those without one."""
    pairs = (word.partition(":") for word in columns.split())
    return PointLayout(tuple((name, own or kind) for name, _, own in pairs))


KNOWN_LAYOUTS = (
    KITTI_POINTS,
    *(
        _layout(f"x y z intensity {others}", kind)
        for kind in ("float32", "float64")
        for others in ("ring", "ring time", "", "ring time a", "ring time a b")
    ),
    _layout("x y z intensity ring:uint16"),
    _layout("x y z intensity ring:uint16 time"),
    _layout("x y z intensity:uint8"),
    _layout("x y z intensity:uint8 ring:uint8"),
    _layout("x y z"),
    _layout("x y z", "float64"),
)
"""What scanners' drivers and other data sets write; KITTI's first."""
