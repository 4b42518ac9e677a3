"""Messages as other programs write them: objects with ROS's field names, whoever made them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kd3d_core.errors import DataError, ImageError
from kd3d_core.messages import decode as module
from kd3d_core.messages.decode import decode, transforms
from kd3d_core.messages.types import Image, PointCloud, Transforms

STAMP = 1_317_042_272_123_456_789
CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


def header(frame_id: str) -> Any:
    seconds, nanoseconds = divmod(STAMP, 10**9)
    return SimpleNamespace(
        stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame_id
    )


def cloud(points: np.ndarray, padding: int = 0) -> Any:
    """A `PointCloud2` of a structured array `(rows, columns)`, whose rows are padded."""
    height, width = points.shape
    step = points.dtype.itemsize
    rows = np.zeros((height, width * step + padding), np.uint8)
    rows[:, : width * step] = np.ascontiguousarray(points).view(np.uint8).reshape(height, -1)
    return SimpleNamespace(
        header=header("lidar"),
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
    points["y"], points["z"], points["intensity"] = -1, 0.5, 200
    message = cloud(points, padding=8)
    found = read(message)
    assert (found.stamp_ns, found.frame_id, found.times_s) == (STAMP, "lidar", None)
    np.testing.assert_array_equal(found.points, [[x, -1, 0.5, 200] for x in range(6)])

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


AFTER_S = np.array([0.0, 0.025, 0.1])


@pytest.mark.parametrize(
    ("name", "dtype", "times"),
    [
        ("t", "<u4", AFTER_S * 1e9),
        ("offset_time", "<u4", AFTER_S * 1e9),
        ("time_stamp", ">u4", AFTER_S * 1e9),
        ("time", "<f4", AFTER_S),
        ("timestamp", "<f8", STAMP / 1e9 + AFTER_S),
        ("timestamp", "<f8", STAMP + AFTER_S * 1e9),
    ],
)
def test_times_of_points_are_seconds_after_the_stamp(
    name: str, dtype: str, times: np.ndarray
) -> None:
    order = dtype[0]
    points = np.zeros((1, 3), [(axis, f"{order}f4") for axis in "xyz"] + [(name, dtype)])
    points[name] = times
    found = read(cloud(points))
    assert found.times_s is not None
    assert found.times_s.dtype == np.float64
    np.testing.assert_allclose(found.times_s, AFTER_S, atol=1e-6)
    assert not found.points[:, 3].any()


def test_times_may_be_before_the_stamp() -> None:
    points = np.zeros((1, 3), [(axis, "<f4") for axis in "xyz"] + [("time", "<f4")])
    points["time"] = -AFTER_S
    np.testing.assert_allclose(read(cloud(points)).times_s, -AFTER_S, atol=1e-8)


@pytest.mark.parametrize(
    ("dtype", "times"),
    [
        ("<f4", AFTER_S * 1e6),  # microseconds
        ("<f8", STAMP / 1e9 + 37 + AFTER_S),  # another clock
        ("<u4", [0, 1, 4_000_000_000]),
        ("<f8", [0, np.nan, 0]),
    ],
)
def test_times_of_unknown_units_are_left_out_and_named_once(
    dtype: str, times: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module._warn_once.cache_clear()
    points = np.zeros((1, 3), [(axis, "<f4") for axis in "xyz"] + [("timestamp", dtype)])
    points["timestamp"] = times
    assert [read(cloud(points)).times_s for _ in range(3)] == [None] * 3
    assert caplog.text.count("the times in field 'timestamp'") == 1


def stamped(child: str, w: float) -> Any:
    return SimpleNamespace(
        header=header("base"),
        child_frame_id=child,
        transform=SimpleNamespace(
            translation=SimpleNamespace(x=1.0, y=2.0, z=3.0),
            rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=w),
        ),
    )


def test_transforms_that_are_no_poses_are_told_and_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    message = SimpleNamespace(transforms=[stamped("broken", np.nan), stamped("camera", 1.0)])
    told: list[str] = []
    (good,) = transforms(message, told.append)
    assert (good.stamp_ns, good.parent, good.child) == (STAMP, "base", "camera")
    np.testing.assert_array_equal(good.parent_from_child[:3, 3], [1, 2, 3])
    (reason,) = told
    assert reason.startswith("the transform base -> broken is left out")
    assert "not finite" in reason
    found = decode(message, Transforms.ros_type)
    assert isinstance(found, Transforms)
    assert [transform.child for transform in found.transforms] == ["camera"]
    assert reason in caplog.text


def test_other_types_are_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"std_msgs/msg/String is none of .*sensor_msgs/msg/Image"):
        decode(SimpleNamespace(data="hello"), "std_msgs/msg/String")


def test_unusable_images_say_why() -> None:
    assert Image(0, "c", 2, 2, "mono8", 3, np.arange(6, dtype=np.uint8)).rgb().tolist() == [
        [[0, 0, 0], [1, 1, 1]],
        [[3, 3, 3], [4, 4, 4]],
    ]
    with pytest.raises(ImageError, match="16UC1"):
        Image(0, "c", 2, 2, "16UC1", 4, np.zeros(8, np.uint8)).rgb()
    with pytest.raises(ImageError, match="11 bytes"):
        Image(0, "c", 2, 2, "rgb8", 6, np.zeros(11, np.uint8)).rgb()
    with pytest.raises(ImageError, match="step 5"):
        Image(0, "c", 2, 2, "rgb8", 5, np.zeros(12, np.uint8)).rgb()
