"""The parameters of the node: declared, described, checked, and read as one frozen dataclass."""

import difflib
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from kd3d_core.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def _about(
    description: str, *, bounds: tuple[float, float] | None = None, changeable: bool = False
) -> dict[str, Any]:
    return {"description": description, "bounds": bounds, "changeable": changeable}


@dataclass(frozen=True)
class DetectorParameters:
    """What a user can set; the descriptions are those of `ros2 param describe`.

    Raises `ConfigError` when made from values that can't be.
    """

    model: str = field(
        default="demo",
        metadata=_about(
            "Model: a name in config/models or weights (demo, mvxnet_kitti), or a YAML file."
        ),
    )
    device: str = field(
        default="auto", metadata=_about("Where the model runs: auto, cpu, cuda or cuda:N.")
    )
    precision: Precision = field(
        default="auto",
        metadata=_about(
            "Numbers the networks compute with: auto (suits the device), fp32, bf16 or fp16."
        ),
    )
    detector_frame: str = field(
        default="",
        metadata=_about(
            "Frame of all results: x forward, y left, z up, 1.73 m over the ground, as the models "
            "learned it. The way to it from the camera is taken from /tf_static. "
            "Empty: virtual_frame."
        ),
    )
    virtual_frame: str = field(
        default="kd3d_lidar",
        metadata=_about(
            "Name of the frame that is made up where there is no LiDAR, level at the camera and "
            "1.73 m over the ground; published on /tf_static. Used when detector_frame is empty."
        ),
    )
    camera_height: float = field(
        default=1.65,
        metadata=_about(
            "Height of the camera over the ground in metres, for the virtual frame.",
            bounds=(0.01, 99.0),
        ),
    )
    image_is_rectified: bool = field(
        default=True,
        metadata=_about(
            "True: images are rectified and CameraInfo's P describes them. "
            "False: raw images, undistorted here with K, D and R."
        ),
    )
    score_threshold: float = field(
        default=-1.0,
        metadata=_about(
            "Boxes with a lower score are not published. Below 0: the model's own thresholds, one "
            "for each class; 0: all boxes.",
            bounds=(-1.0, 1.0),
            changeable=True,
        ),
    )
    lazy: bool = field(
        default=True,
        metadata=_about(
            "True: no inference while nobody subscribes to points, detections or markers.",
            changeable=True,
        ),
    )
    autostart: bool = field(
        default=True,
        metadata=_about(
            "True: configure and activate at start. False: wait for a lifecycle manager."
        ),
    )

    def __post_init__(self) -> None:
        for name in ("model", "device"):
            if not getattr(self, name).strip():
                raise ConfigError(f"parameter {name} is empty: give a value or leave it out")
        if self.precision not in get_args(Precision):
            known = " or ".join(get_args(Precision))
            raise ConfigError(f"parameter precision is {self.precision!r}: give {known}")
        if not self.detector_frame and not self.virtual_frame:
            raise ConfigError("parameters detector_frame and virtual_frame are both empty")

    @property
    def results_frame(self) -> str:
        """`frame_id` of everything that the node publishes."""
        return (self.detector_frame or self.virtual_frame).lstrip("/")


def declare(node: Node) -> None:
    """Declare every parameter on `node`, with description, range and read-only flag.

    Raises:
        ConfigError: when a value given at start (file or command line) is refused.
    """
    for spec in fields(DetectorParameters):
        bounds = spec.metadata["bounds"]
        descriptor = ParameterDescriptor(
            name=spec.name,
            description=spec.metadata["description"],
            read_only=not spec.metadata["changeable"],
        )
        if bounds:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)
            ]
        try:
            node.declare_parameter(spec.name, spec.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f"parameter {spec.name}: {error}") from None


def unknown_overrides(node: Node) -> list[str]:
    """One line for each parameter given at start that the node doesn't have; rclpy says nothing.

    They are no error: a file for all nodes (`/**`) may hold the parameters of others.
    """
    names = [spec.name for spec in fields(DetectorParameters)]
    lines = []
    for given in getattr(node, "_parameter_overrides", {}):
        if node.has_parameter(given) or given.startswith("qos_overrides."):
            continue
        near = difflib.get_close_matches(given, names, 1)
        hint = f": did you mean {near[0]}?" if near else f"; it has {', '.join(names)}"
        lines.append(f"parameter {given!r} is none of this node's{hint}")
    return lines
