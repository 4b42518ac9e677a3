"""Detect in several cameras, each with a node in a namespace of its own, and one RViz for all.

ros2 launch kd3d_ros cameras.launch.py cameras:=front,rear target_frame:=base_link
All arguments of detector.launch.py may be given too, and go to every camera.

The camera `front` publishes /front/image_raw and /front/camera_info, and its results are below
/front/kd3d_detector. Settings that differ go into a params_file, under /front/kd3d_detector.
"""

import tempfile
from pathlib import Path

import yaml
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

CONFIG = Path(__file__).resolve().parents[1] / "config"
SHARED = ("Grid", "TF")  # displays that one RViz needs once
ARGUMENTS = {
    "cameras": ("front,rear", "Namespaces of the cameras, with commas between."),
    "image": ("image_raw", "Topic of the images, below each namespace."),
    "camera_info": ("camera_info", "Topic of their CameraInfo, below each namespace."),
    "target_frame": ("", "Frame of all results, such as base_link, so that RViz can show them."),
    "rviz": ("false", "true: start one RViz for all cameras."),
    "use_sim_time": ("false", "true: the clock of /clock."),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, a node for each camera and, if wanted, RViz."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[GroupAction | Node]:
    """The nodes, once the names of the cameras are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    cameras = [name.strip().strip("/") for name in given["cameras"].split(",")]
    if not all(cameras) or len(set(cameras)) < len(cameras):
        raise RuntimeError(f"cameras:={given['cameras']}: give different names, as front,rear")
    actions: list[GroupAction | Node] = [_camera(name, given) for name in cameras]
    if given["rviz"].lower() in ("true", "1"):
        frame = given["target_frame"] or f"{cameras[0]}/kd3d_lidar"
        actions.append(_rviz(cameras, given, frame))
    return actions


def _camera(name: str, given: dict[str, str]) -> GroupAction:
    """A scope of its own, so that what one camera's launch file sets is not the next one's."""
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("detector.launch.py"))),
        launch_arguments={
            **{each: given[each] for each in ("image", "camera_info", "target_frame")},
            "use_sim_time": given["use_sim_time"],
            "namespace": name,
            "rviz": "false",
        }.items(),
    )
    return GroupAction([detector], scoped=True)


def _rviz(cameras: list[str], given: dict[str, str], frame: str) -> Node:
    file = tempfile.NamedTemporaryFile("w", suffix=".rviz", delete=False)  # noqa: SIM115
    with file:
        yaml.safe_dump(view(cameras, given["image"]), file, sort_keys=False)
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", file.name, "-f", frame],
        parameters=[{"use_sim_time": given["use_sim_time"].lower() in ("true", "1")}],
        output="log",
    )


def view(cameras: list[str], image: str) -> dict:
    """The RViz configuration of one camera, with its displays once for each."""
    config = yaml.safe_load((CONFIG / "rviz" / "detector.rviz").read_text())
    manager = config["Visualization Manager"]
    displays = []
    for display in manager["Displays"]:
        if display["Class"].rpartition("/")[2] in SHARED:
            displays.append(display)
            continue
        for camera in cameras:
            below = image if display["Topic"]["Value"] == "image" else display["Topic"]["Value"]
            topic = {**display["Topic"], "Value": f"/{camera}/{below}"}
            displays.append({**display, "Name": f"{display['Name']} ({camera})", "Topic": topic})
    manager["Displays"] = displays
    return config
