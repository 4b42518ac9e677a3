"""ROS messages as plain data: types, encoders and decoders, without ROS and without a bag library.

The node and bags share them: `encode` makes the bytes that both publish and store, `decode` reads
messages of rclpy and of rosbags alike.
"""
