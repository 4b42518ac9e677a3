"""Messages as other programs write them: objects with ROS's field names, whoever made them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kd3d_core.errors import DataError, ImageError
from kd3d_core.messages.decode import decode, transforms
from kd3d_core.messages.types import Image, Transforms

STAMP = 1_317_042_272_123_456_789


def header(frame_id: str) -> Any:
    seconds, nanoseconds = divmod(STAMP, 10**9)
    return SimpleNamespace(
        stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame_id
    )


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
