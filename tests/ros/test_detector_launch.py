"""The launch files and the files they use.

launch and launch_ros aren't on PyPI. Where they are missing, stand-ins take their place that
record what they are given, so that at least names, arguments and files are checked.
"""

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from node_helpers import ROOT

from kd3d_ros import results
from kd3d_ros.parameters import DetectorParameters


class Recorded:
    """Any launch action or substitution: remembers its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs

    def perform(self, context: dict[str, str]) -> str:
        """What LaunchConfiguration does."""
        return context[self.args[0]]


LaunchFile = Callable[[str], dict[str, Any]]


@pytest.fixture
def read_launch_file(monkeypatch: pytest.MonkeyPatch) -> LaunchFile:
    """The functions of a launch file, by its name."""
    actions = "DeclareLaunchArgument ExecuteProcess GroupAction IncludeLaunchDescription"
    for module, names in {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch.actions": [*actions.split(), "OpaqueFunction", "Shutdown"],
        "launch.launch_description_sources": ["PythonLaunchDescriptionSource"],
        "launch.substitutions": ["LaunchConfiguration"],
        "launch_ros": [],
        "launch_ros.actions": ["Node"],
    }.items():
        stand_in = ModuleType(module)
        for name in names:
            setattr(stand_in, name, type(name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, module, stand_in)
    return lambda name: runpy.run_path(str(ROOT / "launch" / f"{name}.launch.py"))


@pytest.fixture
def launch_file(read_launch_file: LaunchFile) -> dict[str, Any]:
    return read_launch_file("detector")


def named(entities: list[Any], kind: str) -> list[Any]:
    return [entity for entity in entities if type(entity).__name__ == kind]


def test_arguments_are_declared_with_descriptions(launch_file: dict[str, Any]) -> None:
    (entities,) = launch_file["generate_launch_description"]().args
    declared = named(entities, "DeclareLaunchArgument")
    assert {argument.args[0] for argument in declared} == launch_file["ARGUMENTS"].keys()
    assert all(argument.kwargs["description"].endswith(".") for argument in declared)


def test_arguments_that_set_parameters_are_parameters(launch_file: dict[str, Any]) -> None:
    names = {name for kind in ("TEXTS", "NUMBERS", "SWITCHES") for name in launch_file[kind]}
    defaults = DetectorParameters()
    for kind, type_ in (("TEXTS", str), ("NUMBERS", float), ("SWITCHES", bool)):
        assert {type(getattr(defaults, name)) for name in launch_file[kind]} == {type_}
    assert names == launch_file["ARGUMENTS"].keys() & vars(defaults).keys()


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
    topics = {each["Topic"]["Value"] for each in manager["Displays"] if "Topic" in each}
    results = ("points", "markers", "debug_image", "depth")
    assert topics == {"image", *(f"kd3d_detector/{name}" for name in results)}
    assert manager["Global Options"]["Fixed Frame"] == "kd3d_lidar"


def test_a_bag_is_played_to_the_node_and_its_results_are_recorded(
    read_launch_file: LaunchFile, tmp_path: Path
) -> None:
    offline = read_launch_file("offline")
    given = {name: default for name, (default, _) in offline["ARGUMENTS"].items()}
    given |= {"bag": str(tmp_path), "namespace": "/r1", "record": "out"}
    recorder, player = (each.kwargs for each in offline["player_and_recorder"](given))
    assert player["cmd"][3:6] == ["kd3d-bag", "play", str(tmp_path)]
    assert player["cmd"][player["cmd"].index("--wait-for") + 1] == "/r1/image_raw"
    assert "/r1/kd3d_detector/points:sensor_msgs/msg/PointCloud2" in recorder["cmd"]
    assert player["on_exit"] is None
    assert named(recorder["on_exit"], "Shutdown")
    given |= {"record": "", "rviz": "false", "namespace": "", "image": "/cam/image"}
    (player,) = (each.kwargs for each in offline["player_and_recorder"](given))
    assert player["cmd"][player["cmd"].index("--wait-for") + 1] == "/cam/image"
    assert named(player["on_exit"], "Shutdown")
    with pytest.raises(RuntimeError, match="there is no such bag"):
        offline["player_and_recorder"]({**given, "bag": "away"})


def test_cameras_have_nodes_in_namespaces_and_one_rviz(read_launch_file: LaunchFile) -> None:
    cameras = read_launch_file("cameras")
    given = {name: default for name, (default, _) in cameras["ARGUMENTS"].items()}
    *groups, rviz = cameras["nodes"]({**given, "cameras": "left, right", "rviz": "true"})
    included = [dict(group.args[0][0].kwargs["launch_arguments"]) for group in groups]
    assert [each["namespace"] for each in included] == ["left", "right"]
    _, file, _, frame = rviz.kwargs["arguments"]
    assert frame == "left/kd3d_lidar"
    view = yaml.safe_load(Path(file).read_text())["Visualization Manager"]
    Path(file).unlink()
    topics = [each["Topic"]["Value"] for each in view["Displays"] if "Topic" in each]
    assert {"/left/image_raw", "/right/kd3d_detector/points"} <= set(topics)
    assert len(topics) == 10
    assert sum(each["Class"].endswith("/Grid") for each in view["Displays"]) == 1
    with pytest.raises(RuntimeError, match="give different names"):
        cameras["nodes"]({**given, "cameras": "left,left"})


def test_the_foxglove_layout_shows_topics_that_the_node_has() -> None:
    layout = json.loads((ROOT / "config" / "foxglove" / "detector.json").read_text())
    text = json.dumps(layout)
    names = set(re.findall(r"/kd3d_detector/([a-z_/]+)", text))
    rows = (*results.FRAME_OUTPUTS, *results.NODE_OUTPUTS, *results.TIME_OUTPUTS)
    assert names <= {row.name.removeprefix("~/") for row in rows}
    assert len(names) == 5
