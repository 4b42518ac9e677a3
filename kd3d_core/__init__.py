"""kd3d_core: monocular 3D detection taught by LiDAR. Needs torch; never imports ROS."""

__version__ = "0.1.0"
