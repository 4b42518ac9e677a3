"""`sensor_msgs/PointCloud2` by field name and datatype, in whichever units its driver writes.

Drivers agree on x, y, z in metres. Intensity is a byte, 16 bits or a float to 1, 255 or 65535; the
times of points are in seconds, milli-, micro- or nanoseconds, after the header stamp or since 1970
(Velodyne `time`, Ouster `t`, Hesai and RoboSense `timestamp`, Livox `offset_time` or `timestamp`,
Autoware `time_stamp`). One cloud may not tell which: `find_units` looks at several of a topic, and
all of the topic is then read by what it has found.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd3d_core.errors import DataError, Once, listed, shown
from kd3d_core.messages.types import PointCloud

_warn_once = Once(logging.getLogger(__name__).warning)

_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_INTENSITY_FIELDS = ("intensity", "i", "reflectivity")
_TIME_FIELDS = ("t", "time", "timestamp", "time_stamp", "offset_time")
_INTENSITY_MAXIMA = (1.0, 255.0, 65535.0)
_UNITS = {1.0: "s", 1e-3: "ms", 1e-6: "us", 1e-9: "ns"}
# A scan takes a tenth of a second or so, and its header has the time of its start or end.
_LONGEST_SCAN_S = 1.0
_SHORTEST_SCAN_S = 5e-3
# Since 1970: the years 1985 to 2128, which no time after a stamp reaches in any unit of a double.
_SINCE_1970_S = 5e8, 5e9


@dataclass(frozen=True)
class CloudUnits:
    """In which units the clouds of a topic are.

    Attributes:
        intensity_field, time_field: their names; empty where the clouds have none.
        intensity_max: the intensity that becomes 1.
        time_unit_s: seconds that a 1 in the time field means.
        time_is_absolute: whether times are since 1970; else they are after the header stamp.
    """

    intensity_field: str = ""
    intensity_max: float = 1.0
    time_field: str = ""
    time_unit_s: float = 1.0
    time_is_absolute: bool = False

    def __str__(self) -> str:
        intensity = "no intensity"
        if self.intensity_field:
            intensity = f"{self.intensity_field} to {self.intensity_max:g}"
        times = "no times of points"
        if self.time_field:
            since = "since 1970" if self.time_is_absolute else "after the stamp"
            times = f"times of points in {self.time_field} ({_UNITS[self.time_unit_s]} {since})"
        return f"{intensity}, {times}"


@dataclass(frozen=True, eq=False)
class CloudColumns:
    """A cloud's fields as they were recorded, of the points that measure something.

    Attributes:
        xyz: `(N, 3)` float32.
        intensity, times: `(N,)` of the field's own type; None where the cloud has no such field.
        not_finite, zero: points left out, because a coordinate is not finite or all are 0.
    """

    stamp_ns: int
    frame_id: str
    xyz: np.ndarray
    intensity_field: str
    intensity: np.ndarray | None
    time_field: str
    times: np.ndarray | None
    not_finite: int
    zero: int


def read_columns(message: Any) -> CloudColumns:
    """The columns of a `PointCloud2`, of rclpy or a bag library.

    `DataError` if it has no x, y, z, or its sizes contradict each other.
    """
    packed = _packed(message)
    fields = {field.name: field for field in message.fields}
    order = ">" if message.is_bigendian else "<"
    if missing := [name for name in "xyz" if name not in fields]:
        raise DataError(f"the cloud has no field {missing[0]!r}, only {listed(fields)}")
    xyz = np.empty((len(packed), 3), np.float32)
    for axis, name in enumerate("xyz"):
        xyz[:, axis] = _column(packed, fields[name], order)
    kept, not_finite, zero = _kept(xyz)
    intensity = next((name for name in _INTENSITY_FIELDS if name in fields), "")
    time = next((name for name in _TIME_FIELDS if name in fields), "")
    stamp = message.header.stamp
    return CloudColumns(
        int(stamp.sec) * 10**9 + int(stamp.nanosec),
        message.header.frame_id,
        xyz[kept],
        intensity,
        _column(packed, fields[intensity], order)[kept] if intensity else None,
        time,
        _column(packed, fields[time], order)[kept] if time else None,
        not_finite,
        zero,
    )


def _kept(xyz: np.ndarray) -> tuple[slice | np.ndarray, int, int]:
    """Which points measure something, and how many are not finite or at zero; fast if all do."""
    is_zero = xyz[:, 0] == 0
    if is_zero.any():
        is_zero &= (xyz[:, 1] == 0) & (xyz[:, 2] == 0)
    is_finite = np.isfinite(xyz)
    if is_finite.all() and not is_zero.any():
        return slice(None), 0, 0
    is_finite = is_finite.all(1)
    return is_finite & ~is_zero, int((~is_finite).sum()), int(is_zero.sum())


def find_units(clouds: Sequence[CloudColumns]) -> CloudUnits:
    """The units of a topic, found in some of its clouds.

    A byte is to 255. Other intensities are to the smallest of 1, 255 and 65535 that none of the
    clouds exceeds. Times are in the unit in which a cloud takes 5 ms to 1 s, or they are today.
    """
    clouds = [cloud for cloud in clouds if len(cloud.xyz)]
    if not clouds:
        return CloudUnits()
    first = clouds[0]
    units = CloudUnits(intensity_field=first.intensity_field)
    intensities = [cloud.intensity for cloud in clouds if cloud.intensity is not None]
    if intensities:
        units = CloudUnits(first.intensity_field, _intensity_max(intensities))
    times = [cloud.times for cloud in clouds if cloud.times is not None]
    found = _time_unit(times) if times else None
    if found is None:
        if times:
            _warn_once(
                f"clouds in {shown(first.frame_id)!r}: the times in field {first.time_field!r} are "
                "in no known unit: they are left out"
            )
        return units
    return CloudUnits(units.intensity_field, units.intensity_max, first.time_field, *found)


def make_cloud(columns: CloudColumns, units: CloudUnits) -> PointCloud:
    """The cloud with intensity from 0 to 1 and times in seconds after the header stamp.

    Times that are not within a second of the stamp, of another clock for example, are left out with
    a warning; intensities over the maximum become 1, with a warning, and negative ones 0.
    """
    points = np.empty((len(columns.xyz), 4), np.float32)
    for axis in range(3):  # five times as fast as all three at once
        points[:, axis] = columns.xyz[:, axis]
    points[:, 3] = 0
    if columns.intensity is not None and units.intensity_field:
        scaled = columns.intensity.astype(np.float32) / np.float32(units.intensity_max)
        most = scaled.max(initial=0)
        if most > 1.001:
            _warn_once(
                f"clouds in {shown(columns.frame_id)!r}: intensity exceeds "
                f"{units.intensity_max:g}, which was the most in other clouds: it is clipped"
            )
        if not (most <= 1 and scaled.min(initial=0) >= 0):  # nor if one is NaN
            scaled = np.clip(np.nan_to_num(scaled, posinf=1.0), 0, 1)
        points[:, 3] = scaled
    return PointCloud(
        columns.stamp_ns,
        columns.frame_id,
        points,
        _times_s(columns, units),
        columns.not_finite,
        columns.zero,
    )


def _packed(message: Any) -> np.ndarray:
    """`(N, point_step)` bytes of the points."""
    height, width = int(message.height), int(message.width)
    step, row_step = int(message.point_step), int(message.row_step)
    data = np.asarray(message.data, np.uint8)
    if data.size < row_step * height or row_step < step * width:
        raise DataError(
            f"a cloud of {height} x {width} points with point_step {step} and row_step {row_step} "
            f"has {data.size} bytes: it is cut off or its steps are wrong"
        )
    rows = data[: row_step * height].reshape(height, row_step)[:, : step * width]
    return np.ascontiguousarray(rows).reshape(height * width, step)


def _column(packed: np.ndarray, field: Any, order: str) -> np.ndarray:
    """The values of a field, `(N,)`, as a view of points of `(N, point_step)` bytes."""
    if field.datatype not in _DTYPES:
        raise DataError(f"field {shown(field.name)!r} has the unknown datatype {field.datatype}")
    dtype = np.dtype(order + _DTYPES[field.datatype])
    start, end, step = int(field.offset), int(field.offset) + dtype.itemsize, packed.shape[1]
    if end > step:
        raise DataError(
            f"field {shown(field.name)!r} ends at byte {end} of a point of {step} bytes"
        )
    if not len(packed):
        return np.zeros(0, dtype)
    return np.ndarray((len(packed),), dtype, packed, start, (step,))


def _intensity_max(columns: Sequence[np.ndarray]) -> float:
    if all(column.dtype.itemsize == 1 for column in columns):
        return 255.0
    largest = max(float(column[np.isfinite(column)].max(initial=0)) for column in columns)
    maxima = _INTENSITY_MAXIMA[1:] if columns[0].dtype.kind in "iu" else _INTENSITY_MAXIMA
    return next((most for most in maxima if largest <= most * 1.001), maxima[-1])


def _time_unit(columns: Sequence[np.ndarray]) -> tuple[float, bool] | None:
    """Seconds of the unit, and whether times are since 1970; None if there is no such unit.

    What is nearly 0, as all points of a flash LiDAR are, is in seconds if a float, else in ns.
    """
    is_whole = columns[0].dtype.kind in "iu"
    finite = [np.abs(column[np.isfinite(column)].astype(np.float64)) for column in columns]
    largest = max(float(column.max(initial=0)) for column in finite)
    for unit in _UNITS:
        if columns[0].dtype.itemsize == 8 and _SINCE_1970_S[0] <= largest * unit < _SINCE_1970_S[1]:
            return unit, True
    for unit in reversed(_UNITS) if is_whole else _UNITS:
        if _SHORTEST_SCAN_S <= largest * unit <= _LONGEST_SCAN_S:
            return unit, False
    smallest = 1e-9 if is_whole else 1.0
    return (smallest, False) if largest * smallest < _SHORTEST_SCAN_S else None


def _times_s(columns: CloudColumns, units: CloudUnits) -> np.ndarray | None:
    if columns.times is None or not units.time_field:
        return None
    if not units.time_is_absolute:
        after_s = columns.times.astype(np.float64) * units.time_unit_s
    elif units.time_unit_s == 1:
        after_s = columns.times.astype(np.float64) - columns.stamp_ns / 1e9
    else:  # in whole nanoseconds, because a double has too few digits for the difference
        scale = round(units.time_unit_s * 1e9)
        finite = np.nan_to_num(columns.times.astype(np.float64))
        after_s = (finite.astype(np.int64) * scale - columns.stamp_ns) / 1e9
    if np.abs(after_s).max(initial=0.0) <= _LONGEST_SCAN_S:
        return after_s
    _warn_once(
        f"clouds in {shown(columns.frame_id)!r}: the times in field {units.time_field!r} are not "
        "within a second of the header stamp: they are left out"
    )
    return None
