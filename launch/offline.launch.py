"""Play a bag through the detector: node, RViz, and a bag of the results.

ros2 launch kd3d_ros offline.launch.py bag:=drive image:=/camera/image_raw \\
    camera_info:=/camera/camera_info record:=results
ros2 launch kd3d_ros offline.launch.py --show-args   # those of detector.launch.py too

Everything runs on the bag's clock. With record it ends by itself, when no result has come for a
while; else when the bag is over, or with rviz, when you end it.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchContext, LaunchDescription

RESULTS = {
    "points": "sensor_msgs/msg/PointCloud2",
    "detections": "vision_msgs/msg/Detection3DArray",
    "detections_2d": "vision_msgs/msg/Detection2DArray",
    "markers": "visualization_msgs/msg/MarkerArray",
}
ARGUMENTS = {
    "bag": (None, "Bag to play: a rosbag2 folder, or an .mcap, .db3 or ROS 1 .bag file."),
    "image": ("image_raw", "Topic of the bag's images."),
    "rate": ("1.0", "Speed at which the bag is played."),
    "record": ("", "Folder of a bag to write of the results. Empty: none."),
    "idle": ("10.0", "Seconds without a result after which recording ends."),
    "namespace": ("", "Namespace of the node and its results."),
    "rviz": ("true", "true: start RViz."),
}


def generate_launch_description() -> LaunchDescription:
    """The arguments, the detector with RViz, the player and the recorder."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    detector = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("detector.launch.py"))),
        launch_arguments={
            # Subscribed to from the start, so that the player has somebody to wait for.
            "lazy": "false",
            "use_sim_time": "true",
            "image": LaunchConfiguration("image"),
            "namespace": LaunchConfiguration("namespace"),
            "rviz": LaunchConfiguration("rviz"),
        }.items(),
    )
    return LaunchDescription([*declared, detector, OpaqueFunction(function=player_and_recorder)])


def player_and_recorder(context: LaunchContext) -> list[ExecuteProcess]:
    """What plays the bag, and what records the results, if wanted."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(given["bag"]).expanduser().exists():
        raise RuntimeError(f"bag:={given['bag']}: there is no such bag")
    namespace = given["namespace"].strip("/")
    below = f"/{namespace}" if namespace else ""
    image = given["image"] if given["image"].startswith("/") else f"{below}/{given['image']}"
    ends_with_bag = not given["record"] and given["rviz"].lower() in ("false", "0")
    player = ExecuteProcess(
        cmd=[
            *("ros2", "run", "kd3d_ros", "kd3d-bag", "play", given["bag"]),
            *("--clock", "--rate", given["rate"], "--wait-for", image, "--wait-timeout", "120"),
        ],
        output="screen",
        on_exit=[Shutdown(reason="the bag is over")] if ends_with_bag else None,
    )
    if not given["record"]:
        return [player]
    topics = [f"{below}/kd3d_detector/{name}:{kind}" for name, kind in RESULTS.items()]
    recorder = ExecuteProcess(
        cmd=[
            *("ros2", "run", "kd3d_ros", "kd3d-bag", "record", *topics),
            *("--out", given["record"], "--idle-seconds", given["idle"]),
        ],
        output="screen",
        on_exit=[Shutdown(reason="the results are recorded")],
    )
    return [recorder, player]
