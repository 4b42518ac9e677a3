"""Messages read back with rosbags' definitions, which their writer doesn't use."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sample_messages import BOXES, CLOUD, IMAGE, INFO, STAMP, TRANSFORMS, assert_same

from kd3d_core.data.bag import typestore
from kd3d_core.errors import DataError
from kd3d_core.messages.decode import decode
from kd3d_core.messages.encode import encode, encode_float
from kd3d_core.messages.types import (
    FLOAT64,
    CompressedImage,
    Message,
    ObjectBoxes,
    RegionOfInterest,
    Transforms,
)

MESSAGES = [
    IMAGE,
    CompressedImage(STAMP, "camera", "bgr8; jpeg compressed bgr8", np.arange(7, dtype=np.uint8)),
    INFO,
    replace(INFO, d=np.empty(0), binning_x=2, binning_y=4, roi=RegionOfInterest(1, 2, 3, 4, True)),
    CLOUD,
    replace(CLOUD, times_s=np.linspace(-0.05, 0.05, len(CLOUD.points))),
    replace(CLOUD, points=CLOUD.points[:0]),
    TRANSFORMS,
    Transforms(()),
    BOXES,
    replace(BOXES, ids=("12", "")),
    ObjectBoxes(STAMP, "", np.empty((0, 7), np.float32), (), np.empty(0)),
]


def read(data: bytes, kind: str) -> Any:
    """rosbags' message, of which every field has been read: what it writes is as many bytes."""
    store = typestore((kind,))
    message = store.deserialize_cdr(data, kind)
    assert bytes(store.serialize_cdr(message, kind)) == data
    return message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back(message: Message) -> None:
    found = decode(read(encode(message), message.ros_type), message.ros_type)
    assert_same(message, found)


def test_images_are_views_of_what_was_sent() -> None:
    strided = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[:, ::-1]
    image = type(IMAGE).from_rgb(strided, STAMP, "camera")
    message = read(encode(image), image.ros_type)
    assert (message.height, message.width, message.step, message.encoding) == (4, 6, 18, "rgb8")
    assert bytes(message.data) == strided.tobytes()


def test_clouds_say_whether_all_points_are_finite() -> None:
    assert read(encode(CLOUD), CLOUD.ros_type).is_dense
    points = CLOUD.points.copy()
    points[3, 1] = np.nan
    assert not read(encode(replace(CLOUD, points=points)), CLOUD.ros_type).is_dense


def test_a_float() -> None:
    assert read(encode_float(-2.5), FLOAT64).data == -2.5


@pytest.mark.parametrize("stamp_ns", [-(2**31) * 10**9 - 1, 2**31 * 10**9])
def test_stamps_that_ros_has_not(stamp_ns: int) -> None:
    with pytest.raises(DataError, match=f"the stamp {stamp_ns} ns"):
        encode(replace(BOXES, stamp_ns=stamp_ns))
    kept = replace(BOXES, stamp_ns=stamp_ns + (1 if stamp_ns < 0 else -1))
    assert_same(kept, decode(read(encode(kept), kept.ros_type), kept.ros_type))


def test_vision_msgs_is_the_interface_that_everyone_has() -> None:
    assert typestore((BOXES.ros_type,)).hash_rihs01(BOXES.ros_type) == (
        "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    )
