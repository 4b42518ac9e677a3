"""The profile of Fast DDS: which variable names it, and that there is one."""

import os
from importlib.metadata import PackageNotFoundError, version

from kd3d_core.paths import share_dir

# Of Fast DDS 3, which comes with Kilted, and of Fast DDS 2, which reads no other. With Kilted both
# are read, and a profile that both name is an error.
NEW, OLD = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


def has_fast_dds_2() -> bool:
    """Whether this is ROS 2 Jazzy or older."""
    try:
        return int(version("rclpy").partition(".")[0]) < 9
    except PackageNotFoundError:  # built without metadata
        return os.environ.get("ROS_DISTRO") in ("humble", "jazzy")


def use_profile(name: str = "fastdds.xml") -> None:
    """Let Fast DDS carry whole images between processes, unless the user has a profile already.

    Its default transports lose best-effort images from half a megabyte on. Fast DDS reads the
    variable when the first context is made. Other middlewares ignore it.

    Args:
        name: of the profile in `config`. Where discovery is limited to this machine, it is
            `fastdds_local.xml` instead, which keeps the ports there as well.
    """
    if (
        os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST"
        or os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    ):
        name = "fastdds_local.xml"
    own = str(share_dir() / "config" / name)
    if has_fast_dds_2():
        os.environ.setdefault(OLD, os.environ.get(NEW, own))
    elif OLD not in os.environ:
        os.environ.setdefault(NEW, own)
