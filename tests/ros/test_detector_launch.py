"""The launch file and the files it uses.

launch and launch_ros aren't on PyPI. Where they are missing, stand-ins take their place that
record what they are given, so that at least names, arguments and files are checked.
"""

import runpy
import sys
from types import ModuleType
from typing import Any

import pytest
import yaml
from node_helpers import ROOT


class Recorded:
    """Any launch action or substitution: remembers its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def perform(self, context: dict[str, str]) -> str:
        """What LaunchConfiguration does."""
        return context[self.args[0]]


@pytest.fixture
def launch_file(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for module, names in {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": ["DeclareLaunchArgument", "OpaqueFunction"],
        "launch.substitutions": ["LaunchConfiguration"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
    }.items():
        stand_in = ModuleType(module)
        for name in names:
            setattr(stand_in, name, type(name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, module, stand_in)
    return runpy.run_path(str(ROOT / "launch" / "detector.launch.py"))


def named(entities: list[Any], kind: str) -> list[Any]:
    return [entity for entity in entities if type(entity).__name__ == kind]


def test_arguments_are_declared_with_descriptions(launch_file: dict[str, Any]) -> None:
    (entities,) = launch_file["generate_launch_description"]().args
    declared = named(entities, "DeclareLaunchArgument")
    assert {argument.args[0] for argument in declared} == {
        "image", "camera_info", "image_transport", "max_rate", "params_file", "model", "device",
        "camera_height", "detector_frame", "autostart", "namespace", "use_sim_time", "log_level",
        "respawn", "rviz",
    }  # fmt: skip
    assert all(argument.kwargs["description"].endswith(".") for argument in declared)


def nodes(launch_file: dict[str, Any], **given: str) -> list[dict[str, Any]]:
    defaults = {name: default for name, (default, _) in launch_file["ARGUMENTS"].items()}
    return [node.kwargs for node in launch_file["nodes"]({**defaults, **given})]


def test_detector(launch_file: dict[str, Any]) -> None:
    (detector,) = nodes(launch_file)
    assert detector["executable"] == "detector_node"
    params_file, chosen = detector["parameters"]
    assert params_file == str(ROOT / "config" / "detector.yaml")
    assert chosen == {"use_sim_time": False}  # nothing that would win over the file
    (detector,) = nodes(
        launch_file, model="mvxnet_kitti", image="/cam/image", use_sim_time="True", namespace="r1"
    )
    assert detector["parameters"][1] == {"model": "mvxnet_kitti", "use_sim_time": True}
    assert ("image", "/cam/image") in detector["remappings"]
    assert detector["namespace"] == "r1"


def test_chosen_parameters_have_their_types(launch_file: dict[str, Any]) -> None:
    (detector,) = nodes(
        launch_file, camera_height="2", detector_frame="velodyne", autostart="False",
        log_level="debug", respawn="true",
    )  # fmt: skip
    chosen = detector["parameters"][1]
    assert chosen == {
        "camera_height": 2.0, "detector_frame": "velodyne", "autostart": False,
        "use_sim_time": False,
    }  # fmt: skip
    assert type(chosen["camera_height"]) is float
    assert detector["ros_arguments"] == ["--log-level", "debug"]
    assert detector["respawn"] is True
    (detector,) = nodes(launch_file)
    assert detector["respawn"] is False


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"params_file": "away.yaml"}, "params_file away.yaml is no file"),
        ({"params_file": str(ROOT)}, "is no file"),
        ({"camera_height": "tall"}, "camera_height:=tall: give a number"),
        ({"respawn": "maybe"}, "respawn:=maybe: give true or false"),
    ],
)
def test_arguments_that_cannot_be_are_errors(
    launch_file: dict[str, Any], given: dict[str, str], reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason):
        nodes(launch_file, **given)


def test_rviz_is_started_on_demand(launch_file: dict[str, Any]) -> None:
    _, rviz = nodes(launch_file, rviz="true")
    view = ["-d", str(ROOT / "config" / "rviz" / "detector.rviz")]
    assert rviz["arguments"] == [*view, "-f", "kd3d_lidar"]
    _, rviz = nodes(launch_file, rviz="true", namespace="/front")
    assert rviz["arguments"] == [*view, "-f", "front/kd3d_lidar"]
    _, rviz = nodes(launch_file, rviz="true", detector_frame="velodyne")
    assert rviz["arguments"] == [*view, "-f", "velodyne"]


def test_rviz_needs_no_plugin_and_shows_what_the_node_publishes() -> None:
    config = yaml.safe_load((ROOT / "config" / "rviz" / "detector.rviz").read_text())
    manager = config["Visualization Manager"]
    displays = {display["Class"]: display for display in manager["Displays"]}
    assert all(name.startswith("rviz_default_plugins/") for name in displays)
    topics = {
        name.removeprefix("rviz_default_plugins/"): display["Topic"]["Value"]
        for name, display in displays.items()
        if "Topic" in display
    }
    assert topics == {
        "Image": "image",
        "PointCloud2": "kd3d_detector/points",
        "MarkerArray": "kd3d_detector/markers",
    }
    assert manager["Global Options"]["Fixed Frame"] == "kd3d_lidar"
