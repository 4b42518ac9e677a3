"""Parameters as a user sees them."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml
from fake_detector import FakeDetector
from node_helpers import ROOT
from rcl_interfaces.msg import ParameterDescriptor
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
    changeable = set()
    for spec in fields(DetectorParameters):
        descriptor: ParameterDescriptor = node.describe_parameter(spec.name)
        assert descriptor.description.endswith(".")
        assert node.get_parameter(spec.name).value == spec.default
        if not descriptor.read_only:
            changeable.add(spec.name)
    assert changeable == {"score_threshold", "lazy"}
    (bounds,) = node.describe_parameter("score_threshold").floating_point_range
    assert (bounds.from_value, bounds.to_value) == (-1.0, 1.0)


def test_values_given_at_start(make_node: MakeNode) -> None:
    node = make_node(camera_height=0.4, lazy=False, detector_frame="/velodyne", precision="fp16")
    assert node.settings == DetectorParameters(
        camera_height=0.4, lazy=False, detector_frame="/velodyne", precision="fp16"
    )
    assert node.settings.results_frame == "velodyne"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score_threshold", 1.5, "1.5"),
        ("score_threshold", float("nan"), "nan"),
        ("camera_height", 0.0, "camera_height"),
        ("camera_height", 2, "DOUBLE"),
        ("model", " ", "model is empty"),
        ("precision", "int8", "auto or fp32 or bf16 or fp16"),
        ("virtual_frame", "", "virtual_frame"),
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
    for name, value in (("score_threshold", 2.0), ("camera_height", 1.0)):
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        assert name in result.reason
    assert node.settings == DetectorParameters(score_threshold=0.25)


def test_unknown_names_are_warned_about(
    make_node: MakeNode, capfd: pytest.CaptureFixture[str]
) -> None:
    make_node(score_treshold=0.5)
    assert "did you mean score_threshold?" in capfd.readouterr().err
