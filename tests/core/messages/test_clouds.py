"""Clouds as drivers write them: fields by name, whichever types and units they have."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from kd3d_core.data.bag import BagReader, typestore
from kd3d_core.errors import DataError, Once
from kd3d_core.messages import clouds as module
from kd3d_core.messages.clouds import CloudUnits, find_units, read_columns
from kd3d_core.messages.decode import decode
from kd3d_core.messages.types import PointCloud

STAMP = 1_317_042_272_123_456_789
CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
AXES = [(axis, "<f4") for axis in "xyz"]
AFTER_S = np.array([0.0, 0.025, 0.1])


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other test has used up what is said once."""
    monkeypatch.setattr(module, "_warn_once", Once(logging.getLogger(module.__name__).warning))


def cloud(points: np.ndarray, padding: int = 0) -> Any:
    """A `PointCloud2` of a structured array `(rows, columns)`, whose rows are padded."""
    height, width = points.shape
    step = points.dtype.itemsize
    rows = np.zeros((height, width * step + padding), np.uint8)
    rows[:, : width * step] = np.ascontiguousarray(points).view(np.uint8).reshape(height, -1)
    seconds, nanoseconds = divmod(STAMP, 10**9)
    stamp = SimpleNamespace(sec=seconds, nanosec=nanoseconds)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="lidar"),
        height=height,
        width=width,
        fields=[
            SimpleNamespace(name=name, offset=offset, datatype=CODES[dtype.str[1:]], count=1)
            for name, (dtype, offset, *_) in (points.dtype.fields or {}).items()
        ],
        is_bigendian=points.dtype[0].str[0] == ">",
        point_step=step,
        row_step=rows.shape[1],
        data=rows.reshape(-1),
        is_dense=True,
    )


def points_of(layout: Any, **columns: Any) -> np.ndarray:
    """A row of points on a line, with other columns."""
    count = max([len(np.atleast_1d(column)) for column in columns.values()], default=3)
    points = np.zeros((1, count), layout)
    points["x"] = 1 + np.arange(count)
    for name, column in columns.items():
        points[name] = column
    return points


def read(message: Any) -> PointCloud:
    found = decode(message, PointCloud.ros_type)
    assert isinstance(found, PointCloud)
    return found


@pytest.mark.parametrize("order", "<>")
def test_clouds_are_read_by_field_name(order: str) -> None:
    layout = np.dtype(
        {
            "names": ["ring", "intensity", "z", "y", "x"],
            "formats": [f"{order}u2", "u1", f"{order}f4", f"{order}f4", f"{order}f8"],
            "offsets": [0, 2, 4, 8, 16],
            "itemsize": 32,
        }
    )
    points = np.zeros((2, 3), layout)
    points["x"] = np.arange(6).reshape(2, 3)
    points["y"], points["z"], points["intensity"] = -1, 0.5, 51
    message = cloud(points, padding=8)
    found = read(message)
    assert (found.stamp_ns, found.frame_id, found.times_s) == (STAMP, "lidar", None)
    expected = np.array([[x, -1, 0.5, 0.2] for x in range(6)], np.float32)
    np.testing.assert_array_equal(found.points, expected)

    message.row_step = 90
    with pytest.raises(DataError, match="row_step 90"):
        read(message)
    message.row_step = 104
    message.point_step = 20
    with pytest.raises(DataError, match="'x' ends at byte 24 of a point of 20 bytes"):
        read(message)
    message.point_step = 32
    message.fields[0].datatype = message.fields[2].datatype = 9
    with pytest.raises(DataError, match="'z' has the unknown datatype 9"):
        read(message)
    message.fields = [field for field in message.fields if field.name != "y"]
    with pytest.raises(DataError, match="no field 'y'"):
        read(message)


def test_points_that_measure_nothing_are_left_out_and_counted() -> None:
    layout = [*AXES, ("intensity", "u1"), ("t", "<u4")]
    points = points_of(layout, intensity=[10, 20, 30, 40, 50], t=np.arange(5) * 10**7)
    points["y"][0, 1], points["z"][0, 3], points["x"][0, 4] = np.nan, np.inf, 0
    found = read(cloud(points))
    assert (found.not_finite, found.zero) == (2, 1)
    np.testing.assert_array_equal(found.points[:, 0], [1, 3])
    np.testing.assert_allclose(found.points[:, 3], np.array([10, 30]) / 255, rtol=1e-6)
    np.testing.assert_allclose(found.times_s, [0, 0.02])
    empty = read(cloud(points[:, 4:]))
    assert (len(empty.points), empty.zero) == (0, 1)


# Times


@pytest.mark.parametrize(
    ("name", "dtype", "times", "said"),
    [
        ("t", "<u4", AFTER_S * 1e9, "ns after the stamp"),
        ("offset_time", "<u4", AFTER_S * 1e9, "ns after the stamp"),
        ("time_stamp", ">u4", AFTER_S * 1e9, "ns after the stamp"),
        ("t", "<u4", AFTER_S * 1e6, "us after the stamp"),
        ("t", "<u4", [0, 0, 0], "ns after the stamp"),
        ("time", "<f4", AFTER_S, "s after the stamp"),
        ("time", "<f4", -AFTER_S, "s after the stamp"),
        ("time", "<f4", AFTER_S * 1e3, "ms after the stamp"),
        ("time", "<f4", AFTER_S * 1e6, "us after the stamp"),
        ("timestamp", "<f8", STAMP / 1e9 + AFTER_S, "s since 1970"),
        ("timestamp", "<f8", STAMP / 1e3 + AFTER_S * 1e6, "us since 1970"),
        ("timestamp", "<f8", STAMP + AFTER_S * 1e9, "ns since 1970"),
    ],
)
def test_times_of_points_are_seconds_after_the_stamp(
    name: str, dtype: str, times: np.ndarray, said: str
) -> None:
    order = dtype[0]
    layout = [(axis, f"{order}f4") for axis in "xyz"] + [(name, dtype)]
    message = cloud(points_of(layout, **{name: times}))
    found = read(message)
    assert found.times_s is not None
    assert found.times_s.dtype == np.float64
    expected = np.sign(np.max(times) + np.min(times)) * AFTER_S
    np.testing.assert_allclose(found.times_s, expected, atol=1e-6)
    assert not found.points[:, 3].any()
    assert str(find_units([read_columns(message)])) == (
        f"no intensity, times of points in {name} ({said})"
    )


@pytest.mark.parametrize(
    ("dtype", "times"),
    [
        ("<f8", STAMP / 1e9 + 37 + AFTER_S),  # another clock
        ("<u4", [0, 1, 4_000_000_000]),
        ("<f8", [0, np.nan, 0]),
    ],
)
def test_times_of_unknown_units_are_left_out_and_named_once(
    dtype: str, times: Any, caplog: pytest.LogCaptureFixture
) -> None:
    message = cloud(points_of([*AXES, ("timestamp", dtype)], timestamp=times))
    assert [read(message).times_s for _ in range(3)] == [None] * 3
    assert caplog.text.count("the times in field 'timestamp'") == 1


# Intensity


@pytest.mark.parametrize(
    ("field", "dtype", "values", "most"),
    [
        ("intensity", "u1", [0, 3, 1], 255),
        ("intensity", "<f4", [0, 0.5, 1], 1),
        ("intensity", "<f4", [0, 100, 3], 255),
        ("intensity", "<f4", [0, 300, 3], 65535),
        ("reflectivity", "<u2", [0, 1, 1], 255),
        ("reflectivity", "<u2", [0, 255, 256], 65535),
        ("i", "<f8", [0, 255, 3], 255),
    ],
)
def test_intensity_is_from_0_to_1(field: str, dtype: str, values: Any, most: float) -> None:
    message = cloud(points_of([*AXES, (field, dtype)], **{field: values}))
    np.testing.assert_allclose(read(message).points[:, 3], np.array(values) / most, rtol=1e-6)
    assert str(find_units([read_columns(message)])).startswith(f"{field} to {most:g}, ")


def drivers() -> dict[str, tuple[Any, dict[str, Any], CloudUnits]]:
    """Point layouts of drivers, with values as they write them."""
    axes, floats = AXES, [0, 90.0, 255.0]
    return {
        "velodyne_pointcloud": (
            np.dtype({
                "names": ["x", "y", "z", "intensity", "ring", "time"],
                "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", "<f4"],
                "offsets": [0, 4, 8, 16, 20, 24], "itemsize": 32,
            }),
            {"intensity": floats, "time": -AFTER_S},
            CloudUnits("intensity", 255, "time", 1.0, False),
        ),
        "ouster_ros": (
            np.dtype({
                "names": ["x", "y", "z", "intensity", "t", "reflectivity", "ring", "ambient"],
                "formats": ["<f4", "<f4", "<f4", "<f4", "<u4", "<u2", "<u2", "<u2"],
                "offsets": [0, 4, 8, 16, 20, 24, 26, 28], "itemsize": 48,
            }),
            {"intensity": [2, 40, 1900.0], "t": AFTER_S * 1e9, "reflectivity": [1, 2, 255]},
            CloudUnits("intensity", 65535, "t", 1e-9, False),
        ),
        "livox_ros_driver2": (
            [*axes, ("intensity", "<f4"), ("tag", "u1"), ("line", "u1"), ("timestamp", "<f8")],
            {"intensity": floats, "timestamp": STAMP + AFTER_S * 1e9},
            CloudUnits("intensity", 255, "timestamp", 1e-9, True),
        ),
        "hesai_ros_driver": (
            [*axes, ("intensity", "<f4"), ("ring", "<u2"), ("timestamp", "<f8")],
            {"intensity": floats, "timestamp": STAMP / 1e9 + AFTER_S},
            CloudUnits("intensity", 255, "timestamp", 1.0, True),
        ),
        "autoware": (
            [*axes, ("intensity", "u1"), ("return_type", "u1"), ("channel", "<u2"),
             ("azimuth", "<f4"), ("elevation", "<f4"), ("distance", "<f4"), ("time_stamp", "<u4")],
            {"intensity": [0, 90, 255], "time_stamp": AFTER_S * 1e9},
            CloudUnits("intensity", 255, "time_stamp", 1e-9, False),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("driver", drivers())
def test_layouts_of_drivers(driver: str) -> None:
    layout, values, units = drivers()[driver]
    message = cloud(points_of(layout, **values))
    assert find_units([read_columns(message)]) == units
    found = read(message)
    np.testing.assert_allclose(np.abs(found.times_s), AFTER_S, atol=1e-6)
    expected = np.array(values["intensity"]) / units.intensity_max
    np.testing.assert_allclose(found.points[:, 3], expected, rtol=1e-6)


@pytest.fixture
def bag(tmp_path: Path) -> Callable[[list[list[float]]], Path]:
    """Writes a bag of a cloud a second, with these intensities."""
    kind = PointCloud.ros_type
    store = typestore((kind,))

    def write(intensities: list[list[float]]) -> Path:
        with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            connection = writer.add_connection("/points", kind, typestore=store)
            for number, values in enumerate(intensities):
                plain = cloud(points_of([*AXES, ("intensity", "<f4")], intensity=values))
                types = store.types
                header = types["std_msgs/msg/Header"](
                    types["builtin_interfaces/msg/Time"](0, 1), "lidar"
                )
                fields = [types["sensor_msgs/msg/PointField"](**vars(f)) for f in plain.fields]
                message = types[kind](**vars(plain) | {"header": header, "fields": fields})
                writer.write(connection, number * 10**9, store.serialize_cdr(message, kind))
        return tmp_path / "bag"

    return write


def test_units_are_those_of_the_whole_topic(
    bag: Callable[[list[list[float]]], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A cloud of dim points is not brighter than it was."""
    dim = [[0.2, 0.4]] * 20
    with BagReader(bag([*dim, [0, 200.0], *dim])) as reader:
        assert reader.cloud_units("/points").intensity_max == 255
        found = [reader.decode(raw) for raw in reader.messages()]
    np.testing.assert_allclose(found[0].points[:, 3], np.array(dim[0]) / 255, rtol=1e-6)
    np.testing.assert_allclose(found[20].points[:, 3], [0, 200 / 255], rtol=1e-6)
    assert not caplog.text


def test_intensity_over_the_maximum_is_clipped_and_said(
    bag: Callable[[list[list[float]]], Path], caplog: pytest.LogCaptureFixture
) -> None:
    dim = [[0.2, 0.4]] * 20
    with BagReader(bag([*dim, [-1.0, 200.0], *dim, *dim])) as reader:
        found = [reader.decode(raw) for raw in reader.messages()]
    np.testing.assert_allclose(found[0].points[:, 3], dim[0])
    np.testing.assert_allclose(found[20].points[:, 3], [0, 1])
    assert "intensity exceeds 1, which was the most in other clouds" in caplog.text
