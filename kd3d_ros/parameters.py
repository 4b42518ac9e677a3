"""The parameters of the node: described, checked, and read as one frozen dataclass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

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
class ResultFrames:
    """Names of frames.

    Attributes:
        detector: in which the model sees, and boxes are upright.
        results: `frame_id` of points and boxes.
    """

    detector: str
    results: str


@dataclass(frozen=True)
class DetectorParameters:
    """What a user can set; the descriptions are those of `ros2 param describe`.

    Raises `ConfigError` when made from values that can't be. A whole number is taken for a float.
    """

    model: str = _setting(
        "streets", "Model: a name in config/models or weights (streets, demo), or a YAML file."
    )
    device: str = _setting("auto", "Where the model runs: auto, cpu, cuda or cuda:N.")
    precision: Precision = _setting(  # noqa: RUF009 - a field
        "auto", "Numbers the networks compute with: auto (suits the device), fp32, bf16 or fp16."
    )
    threads: int = _setting(
        0,
        "CPU threads that the networks compute with. 0: OMP_NUM_THREADS, else one for each CPU "
        "that the process may use.",
        bounds=(0, 1024),
    )
    detector_frame: str = _setting(
        "",
        "Frame in which the model sees: x forward, y left, z up, 1.73 m over the ground, as it "
        "learned it. Its transform to the camera's frame is taken from /tf_static and /tf. "
        "Empty: virtual_frame.",
    )
    target_frame: str = _setting(
        "",
        "Frame of all results, such as base_link or odom, by /tf and /tf_static at the image's "
        "stamp. Empty: the frame in which the model sees.",
    )
    tf_timeout: float = _setting(
        0.1,
        "Seconds to wait for a transform or CameraInfo that an image needs; then it is rejected.",
        bounds=(0.0, 10.0),
        changeable="always",
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
    camera_pitch: float = _setting(
        0.0,
        "By how much the camera looks down, in radians, for the virtual frame.",
        bounds=(-1.5, 1.5),
    )
    gravity_frame: str = _setting(
        "",
        "A frame whose z points up, such as odom or an IMU's: by /tf it says how the camera is "
        "tilted, in place of camera_pitch, and the virtual frame stays level. Empty: not used.",
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
    tracking: bool = _setting(
        False,
        "True: objects are followed from image to image: detections have ids, markers velocities.",
        changeable="always",
    )
    tracking_frame: str = _setting(
        "",
        "A frame that stands still, best one that never jumps (odom): by /tf, objects are followed "
        "in it. Empty: in the frame in which the model sees, velocities relative to it.",
    )
    max_rate: float = _setting(
        0.0,
        "Images per second that are worked on at most; others are skipped. 0: as many as come.",
        bounds=(0.0, 1000.0),
        changeable="always",
    )
    stale_after: float = _setting(
        0.0,
        "Images older than this many seconds, by their stamp and this node's clock, are skipped. "
        "0: however old.",
        bounds=(0.0, 3600.0),
        changeable="always",
    )
    sampling_ratio: float = _setting(
        0.0,
        "Share of the depth map's pixels that become points, which the model reads as well. 0: as "
        "the model has it.",
        bounds=(0.0, 1.0),
        changeable="always",
    )
    min_range: float = _setting(
        0.0,
        "Points and boxes nearer to the camera than this, in metres over ground, are left out.",
        bounds=(0.0, 1000.0),
        changeable="always",
    )
    max_range: float = _setting(
        0.0,
        "Points and boxes farther from the camera than this are left out. 0: however far.",
        bounds=(0.0, 1000.0),
        changeable="always",
    )
    remove_ground: float = _setting(
        0.0,
        "Points lower than this, in metres over the ground, are left out, as costmaps need it. 0: "
        "with the ground.",
        bounds=(0.0, 10.0),
        changeable="always",
    )
    points_rgb: bool = _setting(
        False,
        "True: points have the image's colours too, in a field rgb.",
        changeable="always",
    )
    lazy: bool = _setting(
        True,
        "True: no inference, and no images received, while nobody subscribes to a result.",
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
                kind: type[int | float] = int if type(spec.default) is int else float
                is_number = type(value) in (int, float)
                if not is_number or not low <= value <= high or kind(value) != value:
                    raise ConfigError(
                        f"parameter {spec.name} is {shown(repr(value))}: give a "
                        f"{'whole ' if kind is int else ''}number from {low:g} to {high:g}"
                    )
                object.__setattr__(self, spec.name, kind(value))
        if 0 < self.max_range <= self.min_range:
            raise ConfigError(
                f"parameter max_range is {self.max_range:g}, and min_range {self.min_range:g}: "
                "nothing lies between; set both at once, or first the one that gives room"
            )
        if self.gravity_frame and (self.detector_frame or self.camera_pitch):
            other = "detector_frame" if self.detector_frame else "camera_pitch"
            raise ConfigError(
                f"parameters gravity_frame and {other} are both set, and each says how the camera "
                "is tilted: leave one out"
            )
        if self.detector_frame and self.camera_pitch:
            raise ConfigError(
                "parameters camera_pitch and detector_frame are both set, and TF says where the "
                "camera is in detector_frame: leave one out"
            )

    def frames(self, namespace: str = "/", node_name: str = NODE_NAME) -> ResultFrames:
        """The frames of a node with these parameters.

        >>> DetectorParameters().frames()
        ResultFrames(detector='kd3d_lidar', results='kd3d_lidar')
        >>> DetectorParameters(target_frame="odom").frames("/front", "left")
        ResultFrames(detector='front/left/kd3d_lidar', results='odom')
        """
        named = (self.detector_frame or self.virtual_frame).lstrip("/")
        own = "" if node_name == NODE_NAME else node_name
        detector = named or "/".join(filter(None, (namespace.strip("/"), own, VIRTUAL_FRAME)))
        return ResultFrames(detector, self.target_frame.lstrip("/") or detector)

    @property
    def needs_tf(self) -> bool:
        """Whether a frame is named that others publish."""
        named = self.detector_frame, self.target_frame, self.gravity_frame, self.tracking_frame
        return any(named)

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
