"""What is published of each image: one row per topic, for the node and bags of `kd3d-detect`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kd3d_core.frames import FrameResult
from kd3d_core.messages.encode import encode, encode_float
from kd3d_core.messages.markers import encode_markers
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_core.messages.types import FLOAT64, MARKER_ARRAY, ObjectBoxes, PointCloud, Transforms
from kd3d_core.messages.vision import LabelInfo, encode_label_info
from kd3d_core.visual.colors import class_color

Content = TypeVar("Content")

# Reliable matches every subscriber; shallow, because old results are worth nothing.
_RESULT = QosProfile(depth=5)


@dataclass(frozen=True)
class Output(Generic[Content]):
    """A topic.

    Attributes:
        name: as a node has it: `~/points` is below the node's own name.
        ros_type: of its messages.
        encode: the message in CDR; None where there is none this time, because an input is missing.
        qos: how it is offered. Without subscribers only latched messages are made.
    """

    name: str
    ros_type: str
    encode: Callable[[Content], bytes | None]
    qos: QosProfile = _RESULT

    def topic(self, node: str) -> str:
        """The topic of a node of this name."""
        return self.name.replace("~", f"/{node}", 1)


@dataclass(frozen=True)
class FrameTimes:
    """How long a frame took, milliseconds: since its arrival, and since its stamp."""

    processing_ms: float
    latency_ms: float


FRAME_OUTPUTS: tuple[Output[FrameResult], ...] = (
    Output(
        "~/points",
        PointCloud.ros_type,
        lambda result: encode(result.cloud) if result.detections.has_points else None,
    ),
    Output("~/detections", ObjectBoxes.ros_type, lambda result: encode(result.found)),
    Output("~/markers", MARKER_ARRAY, lambda result: encode_markers(result.found, class_color)),
)
"""Results of a frame. The largest is first, because it is sent first."""

TIME_OUTPUTS: tuple[Output[FrameTimes], ...] = (
    Output("~/debug/processing_time_ms", FLOAT64, lambda times: encode_float(times.processing_ms)),
    Output("~/debug/pipeline_latency_ms", FLOAT64, lambda times: encode_float(times.latency_ms)),
)

LABEL_INFO: Output[LabelInfo] = Output(
    "~/label_info", LabelInfo.ros_type, encode_label_info, LATCHED
)

TRANSFORMS: Output[Transforms] = Output("/tf", Transforms.ros_type, encode)
STATIC_TRANSFORMS: Output[Transforms] = Output("/tf_static", Transforms.ros_type, encode, LATCHED)
