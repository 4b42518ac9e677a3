"""The parameters of the node: declared, described, checked, and read as one frozen dataclass."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node

from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, shown
from kd3d_core.geometry.virtual_frame import VIRTUAL_FRAME
from kd3d_core.models.card import ModelCard

NODE_NAME = "kd3d_detector"


def _setting(
    default: Any,
    description: str,
    *,
    bounds: tuple[float, float] | None = None,
    changeable: Literal["always", "unconfigured", "never"] = "unconfigured",
) -> Any:
    """A parameter: what it is, its range, and when it may be changed."""
    about = {"description": description, "bounds": bounds, "changeable": changeable}
    return field(default=default, metadata=about)


def _class_threshold(name: str) -> Any:
    return _setting(
        -1.0,
        f"score_threshold of the class {name}. Below 0: as score_threshold says.",
        bounds=(-1.0, 1.0),
        changeable="always",
    )


@dataclass(frozen=True)
class DetectorParameters:
    """What a user can set; the descriptions are those of `ros2 param describe`.

    Raises `ConfigError` when made from values that can't be. A whole number is taken for a float.
    """

    model: str = _setting(
        "demo", "Model: a name in config/models or weights (demo, mvxnet_kitti), or a YAML file."
    )
    device: str = _setting("auto", "Where the model runs: auto, cpu, cuda or cuda:N.")
    precision: Precision = _setting(  # noqa: RUF009 - a field
        "auto", "Numbers the networks compute with: auto (suits the device), fp32, bf16 or fp16."
    )
    detector_frame: str = _setting(
        "",
        "Frame of all results: x forward, y left, z up, 1.73 m over the ground, as the models "
        "learned it. Its transform to the camera's frame is taken from /tf_static and /tf. "
        "Empty: virtual_frame.",
    )
    virtual_frame: str = _setting(
        "",
        "Name of the frame that is made up where there is no LiDAR, level at the camera and "
        "1.73 m over the ground; published on /tf_static. Used when detector_frame is empty. "
        "Empty: kd3d_lidar, below the node's namespace and its name unless that is "
        "kd3d_detector, so that each camera has a frame of its own.",
    )
    camera_height: float = _setting(
        1.65,
        "Height of the camera over the ground in metres, for the virtual frame.",
        bounds=(0.01, 99.0),
    )
    image_is_rectified: bool = _setting(
        True,
        "True: images are rectified and CameraInfo's P describes them. "
        "False: raw images, undistorted here with K, D and R.",
    )
    image_transport: Literal["raw", "compressed"] = _setting(
        "raw",
        "Which images: raw (sensor_msgs/Image on the topic image) or compressed (JPEG or PNG, "
        "sensor_msgs/CompressedImage on image/compressed).",
    )
    image_reliability: Literal["auto", "best_effort", "reliable"] = _setting(
        "auto",
        "QoS of the image subscription: auto (reliable if all publishers are, so that large "
        "images aren't lost), best_effort or reliable.",
    )
    score_threshold: float = _setting(
        -1.0,
        "Boxes with a lower score are not published. Below 0: the model's own thresholds, one "
        "for each class; 0: all boxes.",
        bounds=(-1.0, 1.0),
        changeable="always",
    )
    score_threshold_car: float = _class_threshold("Car")
    score_threshold_pedestrian: float = _class_threshold("Pedestrian")
    score_threshold_cyclist: float = _class_threshold("Cyclist")
    max_rate: float = _setting(
        0.0,
        "Images per second that are worked on at most; others are skipped. 0: as many as come.",
        bounds=(0.0, 1000.0),
        changeable="always",
    )
    lazy: bool = _setting(
        True,
        "True: no inference while nobody subscribes to a result, such as points or detections.",
        changeable="always",
    )
    autostart: bool = _setting(
        True,
        "True: configure and activate at start. False: wait for a lifecycle manager.",
        changeable="never",
    )

    def __post_init__(self) -> None:
        for name in ("model", "device"):
            if not getattr(self, name).strip():
                raise ConfigError(f"parameter {name} is empty: give a value or leave it out")
        for name, hint in get_type_hints(DetectorParameters).items():
            given = getattr(self, name)
            if get_origin(hint) is Literal and given not in get_args(hint):
                known = " or ".join(get_args(hint))
                raise ConfigError(f"parameter {name} is {shown(repr(given))}: give {known}")
        for spec in fields(self):
            if spec.metadata["bounds"]:
                low, high = spec.metadata["bounds"]
                value = getattr(self, spec.name)
                if type(value) not in (int, float) or not low <= value <= high:
                    raise ConfigError(
                        f"parameter {spec.name} is {shown(repr(value))}: give a number from "
                        f"{low:g} to {high:g}"
                    )
                object.__setattr__(self, spec.name, float(value))

    def results_frame(self, namespace: str = "/", node_name: str = NODE_NAME) -> str:
        """`frame_id` of everything that a node publishes.

        >>> DetectorParameters().results_frame()
        'kd3d_lidar'
        >>> DetectorParameters().results_frame("/front", "left")
        'front/left/kd3d_lidar'
        """
        named = (self.detector_frame or self.virtual_frame).lstrip("/")
        own = "" if node_name == NODE_NAME else node_name
        return named or "/".join(filter(None, (namespace.strip("/"), own, VIRTUAL_FRAME)))

    def thresholds(self, card: ModelCard, classes: Sequence[str]) -> tuple[float, ...]:
        """The score of each class from which on boxes are published.

        >>> card = ModelCard(score_thresholds={"Car": 0.4, "Cyclist": 0.3})
        >>> settings = DetectorParameters(score_threshold_cyclist=0.5)
        >>> settings.thresholds(card, ["Car", "Pedestrian", "Cyclist"])
        (0.4, 0.0, 0.5)
        """
        for_all = None if self.score_threshold < 0 else self.score_threshold
        own = [getattr(self, f"score_threshold_{name.lower()}", -1.0) for name in classes]
        others = card.thresholds(classes, for_all)
        return tuple(mine if mine >= 0 else other for mine, other in zip(own, others, strict=True))

    def fixed_by(self, values: Mapping[str, object], state: str) -> str:
        """Why a node in this lifecycle state can't take these values; empty if it can."""
        if state == "unconfigured":
            return ""
        fixed = [
            spec.name
            for spec in fields(self)
            if spec.metadata["changeable"] == "unconfigured"
            and values.get(spec.name, getattr(self, spec.name)) != getattr(self, spec.name)
        ]
        if not fixed:
            return ""
        return (
            f"{', '.join(fixed)}: read when the node is configured, and it is {state}; "
            "`ros2 lifecycle set` it to deactivate and cleanup, then set the parameter, then "
            "configure and activate"
        )


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
            read_only=spec.metadata["changeable"] == "never",
            # A whole number is an integer to ROS, and refused for a static float.
            dynamic_typing=bounds is not None,
        )
        if bounds:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=bounds[0], to_value=bounds[1], step=0.0)
            ]
        try:
            node.declare_parameter(spec.name, spec.default, descriptor)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(shown(f"parameter {spec.name}: {error}", 300)) from None


def unknown_overrides(node: Node) -> list[str]:
    """One line for each parameter given at start that the node doesn't have; rclpy says nothing.

    They are no error: a file for all nodes (`/**`) may hold the parameters of others.
    """
    names = [spec.name for spec in fields(DetectorParameters)]
    lines = []
    for given in getattr(node, "_parameter_overrides", {}):
        if node.has_parameter(given):
            continue
        near = difflib.get_close_matches(given[:80], names, 1)
        if given.startswith("qos_overrides."):
            hint = ": of its QoS only image_reliability can be set"
        elif near:
            hint = f": did you mean {near[0]}?"
        else:
            hint = f"; it has {', '.join(names)}"
        lines.append(f"parameter {shown(repr(given))} is none of this node's{hint}")
    return lines
