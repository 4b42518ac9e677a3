"""Bags: the only importer of rosbags. Reads rosbag2 (MCAP, SQLite) and ROS 1, writes MCAP.

Whatever a bag holds, messages leave the reader as CDR, ROS 2's own serialisation: ROS 1 messages
are converted, and compressed ones are unpacked, also where a lone `.mcap` doesn't say that its
messages are compressed.
"""

from kd3d_core.data.bag.reader import BagReader, RawMessage
from kd3d_core.data.bag.topics import Topic
from kd3d_core.data.bag.types import typestore
from kd3d_core.data.bag.writer import BagWriter

__all__ = ["BagReader", "BagWriter", "RawMessage", "Topic", "typestore"]
