"""A camera driver: says `connected`, waits for a line on stdin, then publishes images at 10 Hz.

python camera_program.py RELIABILITY WIDTH HEIGHT COUNT
"""

import array
import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def _program(reliability: str, width: int, height: int, count: int) -> None:
    rclpy.init()
    node = rclpy.create_node("camera_driver")
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, "/image", qos)
    sys.stdin.readline()
    data = array.array("B", bytes(3 * width * height))
    image = Image(width=width, height=height, step=3 * width, encoding="rgb8", data=data)
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, start + 0.1 * number - time.monotonic()))
        image.header.stamp.sec = number
        publisher.publish(image)
    sys.stdin.readline()  # what was sent last must be able to arrive
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    _program(sys.argv[1], *map(int, sys.argv[2:]))
