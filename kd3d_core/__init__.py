"""kd3d_core: monocular 3D detection taught by LiDAR. Needs torch; never imports ROS."""

from kd3d_core.threads import share_machine

__version__ = "0.1.0"

share_machine()  # whatever imports torch from here on finds it
