"""What kd3d needs of Python and ROS, and the line that brings it."""

import os
import sys
from typing import NamedTuple

from kd3d_core.errors import Kd3dError
from kd3d_core.paths import share_dir

# What is exchanged with other nodes; each is `ros-<distro>-<name>` in apt.
MESSAGES = (
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "sensor_msgs",
    "std_msgs",
    "tf2_msgs",
    "vision_msgs",
    "visualization_msgs",
)


class Package(NamedTuple):
    """A Python package: its module, its name on PyPI, and the one version that fits, if only one.

    kd3d works without it where `purpose` says what for.
    """

    module: str
    distribution: str
    version: str = ""
    purpose: str = ""


# torch and cv2 have checks of their own.
PACKAGES = (
    Package("numpy", "numpy"),
    Package("scipy", "scipy"),
    Package("transformers", "transformers"),
    Package("accelerate", "accelerate"),
    Package("tensorboard", "tensorboard"),
    Package("mmengine", "mmengine", "0.10.7"),
    Package("mmcv", "mmcv-lite", "2.1.0"),
    Package("mmdet", "mmdet", "3.3.0"),
    Package("mmdet3d", "mmdet3d", "1.4.0"),
    Package("numba", "numba"),
    Package("shapely", "shapely"),
    Package("safetensors", "safetensors"),
    Package("huggingface_hub", "huggingface-hub"),
    Package("yaml", "pyyaml"),
    Package("jsonargparse", "jsonargparse"),
    Package("rosbags", "rosbags"),
    Package("rich", "rich"),
    Package("jinja2", "jinja2"),
    Package("matplotlib", "matplotlib"),
    Package("isal", "isal", purpose="writing PNG files three times as fast"),
    Package(
        "embreex",
        "embreex",
        purpose="rendering: kd3d-synth, make demo without --data, studies with render",
    ),
    Package("rerun", "rerun-sdk", purpose="the Rerun viewer"),
)
# What of ROS kd3d works without: (module, what for).
ROS_EXTRAS = {
    "std_srvs": "the node's service ~/enable",
    "sensor_msgs_py": "reading point clouds in scripts of your own",
    "launch_ros": "detector.launch.py",
}
_WITHOUT_WHEEL = ("sensor-msgs-py", "launch-ros", "ros2cli", "rviz2")


def python() -> str:
    """This Python, for a command line."""
    return sys.executable or "python3"


def _in_checkout() -> bool:
    try:
        return (share_dir() / "Makefile").is_file()
    except Kd3dError:
        return False


def mend_package(distribution: str, version: str = "", *, in_environment: bool = True) -> str:
    """Brings a package; `in_environment` if `make env` does."""
    if in_environment and _in_checkout():
        return "make env"
    no_deps = "--no-deps " if distribution.startswith("mm") else ""
    pin = f"=={version}" if version else ""
    return f"{python()} -m pip install {no_deps}{distribution}{pin}"


def mend_ros(package: str) -> str:
    """Brings a package of ROS."""
    name = package.replace("_", "-")
    if distro := os.environ.get("ROS_DISTRO", ""):
        return f"sudo apt install ros-{distro}-{name}"
    if name in _WITHOUT_WHEEL:
        return "comes with a ROS 2 install only: https://docs.ros.org"
    if _in_checkout():
        return "make env"
    if name in ("vision-msgs", "tf2-msgs"):
        return f"in a checkout of kd3d: pip install ./interfaces/{name.replace('-', '_')}"
    extra = "[fastrtps]==9.1.2" if name == "rclpy" else ""
    return f"{python()} -m pip install 'ros-{name}{extra}'"
