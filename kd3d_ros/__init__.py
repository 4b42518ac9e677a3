"""The ROS 2 node of kd3d: a camera topic in, a pseudo-LiDAR cloud and 3D boxes out.

Only this package imports rclpy and messages. `mailbox` knows no ROS at all; `images` and
`diagnostics` know messages but no node; `worker`, `parameters` and `detector_node` put them
together. What a node counts of its frames adds up:

    received = processed + dropped + skipped + rejected + failed  (+ those still on their way)
"""
