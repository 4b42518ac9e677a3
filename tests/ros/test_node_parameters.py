"""Parameters as a user sees them."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml
from fake_detector import FakeDetector
from node_helpers import ROOT
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.parameter import Parameter

from kd3d_core.errors import ConfigError
from kd3d_ros.detector_node import DetectorNode
from kd3d_ros.parameters import DetectorParameters

pytestmark = pytest.mark.usefixtures("ros")

MakeNode = Callable[..., DetectorNode]


@pytest.fixture
def make_node() -> Iterator[MakeNode]:
    """Makes unconfigured nodes with parameters given at start."""
    made = []

    def make(**values: Any) -> DetectorNode:
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        made.append(DetectorNode(lambda *_: FakeDetector(), parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


def test_file_holds_every_parameter_with_its_default() -> None:
    text = (ROOT / "config" / "detector.yaml").read_text()
    given = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert given == {spec.name: spec.default for spec in fields(DetectorParameters)}
    assert [type(value) for value in given.values()] == [
        type(spec.default) for spec in fields(DetectorParameters)
    ]  # rclpy refuses 2 for 2.0


def test_declared_with_descriptions(make_node: MakeNode) -> None:
    node = make_node()
    fixed = set()
    for spec in fields(DetectorParameters):
        descriptor: ParameterDescriptor = node.describe_parameter(spec.name)
        assert descriptor.description.endswith(".")
        assert node.get_parameter(spec.name).value == spec.default
        if descriptor.read_only:
            fixed.add(spec.name)
    assert fixed == {"autostart"}
    (bounds,) = node.describe_parameter("score_threshold").floating_point_range
    assert (bounds.from_value, bounds.to_value) == (-1.0, 1.0)


def test_values_given_at_start(make_node: MakeNode) -> None:
    node = make_node(camera_height=0.4, lazy=False, detector_frame="/velodyne", precision="fp16")
    assert node.settings == DetectorParameters(
        camera_height=0.4, lazy=False, detector_frame="/velodyne", precision="fp16"
    )
    assert node.settings.frames().results == "velodyne"


def test_a_whole_number_is_taken_for_a_float(make_node: MakeNode) -> None:
    node = make_node(camera_height=2, score_threshold=0)
    assert node.settings == DetectorParameters(camera_height=2.0, score_threshold=0.0)
    assert type(node.settings.camera_height) is float
    (result,) = node.set_parameters([Parameter("score_threshold", value=1)])
    assert result.successful
    assert node.settings.score_threshold == 1.0


def test_the_virtual_frame_is_named_after_namespace_and_node(make_node: MakeNode) -> None:
    def frame(namespace: str, name: str, **values: str) -> str:
        return DetectorParameters(**values).frames(namespace, name).results

    assert frame("/", "kd3d_detector") == "kd3d_lidar"
    assert frame("/robot/front", "kd3d_detector") == "robot/front/kd3d_lidar"
    assert frame("/robot", "left") == "robot/left/kd3d_lidar"
    assert frame("/robot", "left", virtual_frame="mine") == "mine"
    assert frame("/robot", "left", virtual_frame="mine", detector_frame="/velodyne") == "velodyne"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score_threshold", 1.5, "1.5"),
        ("score_threshold", float("nan"), "nan"),
        ("camera_height", 0.0, "camera_height"),
        ("camera_height", 100, "camera_height is 100: give a number from 0.01 to 99"),
        ("camera_height", "two", "camera_height is 'two': give a number"),
        ("camera_height", True, "camera_height is True: give a number"),
        ("threads", 1.5, "threads is 1.5: give a whole number from 0 to 1024"),
        ("model", " ", "model is empty"),
        ("precision", "int8", "auto or fp32 or bf16 or fp16"),
        ("image_reliability", "maybe", "auto or best_effort or reliable"),
        ("image_transport", "theora", "raw or compressed"),
        ("max_rate", -1.0, "max_rate"),
        ("score_threshold_car", 2.0, "score_threshold_car"),
        ("lazy", "yes", "BOOL"),
    ],
)
def test_refused_at_start(make_node: MakeNode, name: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_node(**{name: value})


def test_changed_while_running(make_node: MakeNode) -> None:
    node = make_node()
    (result,) = node.set_parameters([Parameter("score_threshold", value=0.25)])
    assert result.successful
    assert node.settings.score_threshold == 0.25
    for name, value in (("score_threshold", 2.0), ("autostart", False)):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        assert name in result.reason
    assert node.settings == DetectorParameters(score_threshold=0.25)


def test_what_configure_reads_can_be_set_while_unconfigured(make_node: MakeNode) -> None:
    node = make_node(autostart=False)

    def set_height(value: float) -> SetParametersResult:
        (result,) = node.set_parameters([Parameter("camera_height", value=value)])
        return result

    assert set_height(0.5).successful
    node.trigger_configure()
    refused = set_height(0.75)
    assert not refused.successful
    assert "camera_height: read when the node is configured, and it is inactive" in refused.reason
    assert set_height(0.5).successful  # as it is: a whole file can be loaded again
    node.trigger_cleanup()
    assert set_height(0.75).successful
    node.trigger_configure()
    assert node.settings.camera_height == 0.75


@pytest.mark.parametrize(
    ("transport", "topic"), [("raw", "/front/image"), ("compressed", "/front/image/compressed")]
)
def test_compressed_images_are_below_raw_ones_wherever_those_are(
    transport: str, topic: str
) -> None:
    node = DetectorNode(
        lambda *_: FakeDetector(),
        parameter_overrides=[Parameter("image_transport", value=transport)],
        cli_args=["--ros-args", "-r", "image:=/front/image"],
    )
    try:
        assert node.intake.topic == topic
    finally:
        node.destroy_node()


def test_unknown_names_are_warned_about(
    make_node: MakeNode, capfd: pytest.CaptureFixture[str]
) -> None:
    qos = {"qos_overrides./picture.subscription.reliability": "reliable", "qos_overrides.x": "1"}
    make_node(score_treshold=0.5, **qos)
    said = capfd.readouterr().err
    assert "did you mean score_threshold?" in said
    assert "qos_overrides of /picture, subscription: this node has no such subscription" in said
    assert "it has /camera_info, /image, /tf, /tf_static" in said
    assert "'qos_overrides.x' is none of this node's: write qos_overrides./TOPIC" in said


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"qos_overrides./image.subscription.reliability": "maybe"},
            "give reliable or best_effort",
        ),
        ({"qos_overrides./image.subscription.depth": 0}, "give 1 to 10000"),
        ({"qos_overrides./image.subscription.deadline": 5}, "give one of reliability, durability"),
        ({"min_range": 5.0, "max_range": 4.0}, "nothing lies between"),
        ({"gravity_frame": "odom", "camera_pitch": 0.1}, "gravity_frame and camera_pitch are both"),
        ({"gravity_frame": "odom", "detector_frame": "lidar"}, "and detector_frame are both set"),
        ({"camera_pitch": 0.1, "detector_frame": "lidar"}, "camera_pitch and detector_frame are"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(
    make_node: MakeNode, values: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_node(**values)


def test_a_range_without_room_is_refused_and_both_can_be_set_at_once(make_node: MakeNode) -> None:
    node = make_node(max_range=10.0)
    (refused,) = node.set_parameters([Parameter("min_range", value=20.0)])
    assert not refused.successful
    assert "nothing lies between" in refused.reason
    both = [Parameter("min_range", value=20.0), Parameter("max_range", value=30.0)]
    assert node.set_parameters_atomically(both).successful
    assert (node.settings.min_range, node.settings.max_range) == (20.0, 30.0)


def test_the_file_for_nav2_holds_parameters_that_the_node_has() -> None:
    text = (ROOT / "config" / "nav2" / "detector.yaml").read_text()
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert vars(DetectorParameters(**values)).items() >= values.items()
    assert 0 < values["remove_ground"] < values["camera_height"]
