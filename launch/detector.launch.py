"""Start the 3D detector on one camera.

ros2 launch kd3d_ros detector.launch.py image:=/camera/image_rect camera_info:=/camera/camera_info
ros2 launch kd3d_ros detector.launch.py --show-args
"""

import os
from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

# launch/ and config/ lie side by side in the source tree and in share/kd3d_ros.
CONFIG = Path(__file__).resolve().parents[1] / "config"

ARGUMENTS = {
    "image": ("image_raw", "Topic of the images (sensor_msgs/Image)."),
    "camera_info": ("camera_info", "Topic of their sensor_msgs/CameraInfo."),
    "params_file": (str(CONFIG / "detector.yaml"), "YAML with the parameters of the node."),
    "model": (
        "",
        "Model: a name in config/models or weights, such as demo or mvxnet_kitti, or a YAML file. "
        "Empty: as params_file says.",
    ),
    "device": (
        "",
        "Where the model runs: auto, cpu, cuda or cuda:N. Empty: as params_file says.",
    ),
    "namespace": ("", "Namespace of the node and of its relative topics."),
    "use_sim_time": ("false", "true: the clock of /clock, as when a bag is played with --clock."),
    "rviz": ("false", "true: start RViz as well, with a view of image, cloud and boxes."),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, the detector and, if wanted, RViz."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])


def profile_variables() -> dict[str, str]:
    """Give Fast DDS room for whole clouds, unless the user has a profile already.

    Humble reads the second name. Other middlewares ignore both. What counts is the profile of
    the process that sends: these variables are for the detector's results, and a camera driver
    that publishes images with Fast DDS must be started with such a profile as well (see
    config/fastdds.xml).
    """
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    if any(os.environ.get(name) for name in names):
        return {}
    return dict.fromkeys(names, str(CONFIG / "fastdds.xml"))


def nodes(context: LaunchContext) -> list[Node]:
    """The nodes, once the values of the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    sim_time = {"use_sim_time": given["use_sim_time"].lower() in ("true", "1")}
    chosen = {name: given[name] for name in ("model", "device") if given[name]}
    # An ordinary Node, not a LifecycleNode: the node's own parameter `autostart` brings it up, and
    # `ros2 lifecycle` works all the same.
    detector = Node(
        package="kd3d_ros",
        executable="detector_node",
        name="kd3d_detector",
        namespace=given["namespace"],
        parameters=[given["params_file"], {**chosen, **sim_time}],
        remappings=[("image", given["image"]), ("camera_info", given["camera_info"])],
        additional_env=profile_variables(),
        output="screen",
        # It finishes the frame in the model first, which takes seconds on a CPU.
        sigterm_timeout="20",
    )
    if given["rviz"].lower() not in ("true", "1"):
        return [detector]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=given["namespace"],
        arguments=["-d", str(CONFIG / "rviz" / "detector.rviz")],
        parameters=[sim_time],
        remappings=[("image", given["image"])],
        output="log",
    )
    return [detector, rviz]
