"""Bags: the only importer of rosbags. Reads rosbag2 (MCAP, SQLite) and ROS 1, writes MCAP.

Whatever a bag holds, messages leave the reader as CDR, ROS 2's own serialisation: ROS 1 messages
are converted, and compressed ones are unpacked. What isn't of ROS is left out and counted.
"""

from kd3d_core.data.bag.reader import BagReader, RawMessage
from kd3d_core.data.bag.storage import is_bag
from kd3d_core.data.bag.topics import Topic
from kd3d_core.data.bag.types import definition_file, typestore
from kd3d_core.data.bag.writer import BagWriter

__all__ = [
    "BagReader",
    "BagWriter",
    "RawMessage",
    "Topic",
    "definition_file",
    "is_bag",
    "typestore",
]
