"""Start the 3D detector on one camera.

ros2 launch kd3d_ros detector.launch.py image:=/camera/image_rect camera_info:=/camera/camera_info
ros2 launch kd3d_ros detector.launch.py --show-args
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription

# launch/ and config/ lie side by side in the source tree and in share/kd3d_ros.
CONFIG = Path(__file__).resolve().parents[1] / "config"

CHOSEN = "Empty: as params_file says."
ARGUMENTS = {
    "image": ("image_raw", "Topic of the images (sensor_msgs/Image)."),
    "camera_info": ("camera_info", "Topic of their sensor_msgs/CameraInfo."),
    "image_transport": ("", f"raw, or compressed for IMAGE/compressed. {CHOSEN}"),
    "params_file": (str(CONFIG / "detector.yaml"), "YAML with the parameters of the node."),
    "model": (
        "",
        "Model: a name in config/models or weights, such as streets or demo, or a YAML file. "
        f"{CHOSEN}",
    ),
    "device": ("", f"Where the model runs: auto, cpu, cuda or cuda:N. {CHOSEN}"),
    "camera_height": ("", f"Height of the camera over the ground in metres. {CHOSEN}"),
    "camera_pitch": ("", f"By how much the camera looks down, in radians. {CHOSEN}"),
    "gravity_frame": ("", f"Frame that says how the camera is tilted, such as odom. {CHOSEN}"),
    "detector_frame": ("", f"Frame in which the model sees, if /tf has a LiDAR's. {CHOSEN}"),
    "target_frame": ("", f"Frame of the results, such as base_link or odom. {CHOSEN}"),
    "image_reliability": ("", f"QoS of images: auto, best_effort or reliable. {CHOSEN}"),
    "sampling_ratio": ("", f"Share of the depth map's pixels that become points. {CHOSEN}"),
    "max_range": ("", f"Metres beyond which points and boxes are left out; 0: none. {CHOSEN}"),
    "remove_ground": ("", f"Metres over ground below which points are left out. {CHOSEN}"),
    "points_rgb": ("", f"true: points have the image's colours. {CHOSEN}"),
    "stale_after": ("", f"Seconds after which an image is too old; 0: never. {CHOSEN}"),
    "lazy": ("", f"false: work while nobody subscribes to a result, too. {CHOSEN}"),
    "tracking": ("", f"true: follow objects from image to image. {CHOSEN}"),
    "tracking_frame": ("", f"Frame that stands still, in which they are followed. {CHOSEN}"),
    "max_rate": ("", f"Images per second that are worked on at most; 0: all. {CHOSEN}"),
    "autostart": ("", f"true: configure and activate at start. {CHOSEN}"),
    "namespace": ("", "Namespace of the node and of its relative topics."),
    "use_sim_time": ("false", "true: the clock of /clock, as when a bag is played with --clock."),
    "log_level": ("info", "Of the node: debug, info, warn, error or fatal."),
    "respawn": ("false", "true: start the node again when it has died."),
    "rviz": ("false", "true: start RViz as well, with a view of image, cloud and boxes."),
}
# Parameters of the node that arguments of the same name set.
TEXTS = (
    *("model", "device", "image_transport", "image_reliability"),
    *("detector_frame", "target_frame", "gravity_frame", "tracking_frame"),
)
NUMBERS = (
    *("camera_height", "camera_pitch", "sampling_ratio", "max_range", "remove_ground"),
    *("max_rate", "stale_after"),
)
SWITCHES = ("autostart", "lazy", "points_rgb", "tracking")


def generate_launch_description() -> LaunchDescription:
    """The arguments, the detector and, if wanted, RViz."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])


def nodes(context: LaunchContext) -> list[Node]:
    """The nodes, once the values of the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    params_file = Path(given["params_file"]).expanduser()
    if not params_file.is_file():  # launch_ros would warn, and the node start with its defaults
        raise RuntimeError(f"params_file {params_file} is no file: give the path of a YAML file")
    sim_time = {"use_sim_time": is_true("use_sim_time", given)}
    chosen: dict[str, str | float | bool] = {name: given[name] for name in TEXTS if given[name]}
    chosen |= {name: number(name, given) for name in NUMBERS if given[name]}
    chosen |= {name: is_true(name, given) for name in SWITCHES if given[name]}
    # An ordinary Node, not a LifecycleNode: the node's own parameter `autostart` brings it up, and
    # `ros2 lifecycle` works all the same. Its Fast DDS profile it sets itself.
    detector = Node(
        package="kd3d_ros",
        executable="detector_node",
        name="kd3d_detector",
        namespace=given["namespace"],
        parameters=[str(params_file), {**chosen, **sim_time}],
        remappings=[("image", given["image"]), ("camera_info", given["camera_info"])],
        ros_arguments=["--log-level", given["log_level"]],
        respawn=is_true("respawn", given),
        respawn_delay=2.0,
        output="screen",
        # It finishes the frame in the model first, which takes seconds on a CPU.
        sigterm_timeout="20",
    )
    if not is_true("rviz", given):
        return [detector]
    # As the node names its frame where neither detector_frame nor virtual_frame is set.
    virtual_frame = "/".join(filter(None, (given["namespace"].strip("/"), "kd3d_lidar")))
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=given["namespace"],
        arguments=[
            *("-d", str(CONFIG / "rviz" / "detector.rviz")),
            *("-f", given["target_frame"] or given["detector_frame"] or virtual_frame),
        ],
        parameters=[sim_time],
        remappings=[("image", given["image"])],
        output="log",
    )
    return [detector, rviz]


def is_true(name: str, given: dict[str, str]) -> bool:
    """The value of an argument that is true or false."""
    word = given[name].lower()
    if word not in ("true", "1", "false", "0"):
        raise RuntimeError(f"{name}:={given[name]}: give true or false")
    return word in ("true", "1")


def number(name: str, given: dict[str, str]) -> float:
    """The value of an argument that is a number."""
    try:
        return float(given[name])
    except ValueError:
        raise RuntimeError(f"{name}:={given[name]}: give a number") from None
