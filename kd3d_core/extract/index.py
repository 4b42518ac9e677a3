"""Where the messages of a recording are, and what their headers say: a few bytes for each.

All of a recording is read once, and none of its images, clouds and labels is kept.
"""

import struct
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from kd3d_core.data.bag import BagReader, RawMessage
from kd3d_core.errors import DataError
from kd3d_core.extract.topics import RecordingTopics
from kd3d_core.geometry.camera_info import camera_info_content
from kd3d_core.messages.types import CameraInfo

_LATEST_NS = 2**62  # of stamps that can be: the year 2116
_CDR_HEADER = 4  # bytes before a message, which say how it is encoded
_LONGEST_FRAME = 256


@dataclass(eq=False)
class TopicIndex:
    """The messages of a topic, in the order of the recording.

    Attributes:
        recorded_ns: when each was recorded.
        repeat: how many before it on this topic were recorded at the same time.
        stamp_ns: of its header; 0 if that has none.
        frame: of its header, a number in `frames`.
        frames: names of frames.
        rejected: messages that aren't among these, by reason.
    """

    recorded_ns: array = field(default_factory=lambda: array("q"))
    repeat: array = field(default_factory=lambda: array("i"))
    stamp_ns: array = field(default_factory=lambda: array("q"))
    frame: array = field(default_factory=lambda: array("i"))
    frames: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.recorded_ns)

    @property
    def count(self) -> int:
        """All messages that were seen."""
        return len(self) + self.rejected.total()

    def add(self, raw: RawMessage, repeat: int) -> None:
        """Note a message."""
        try:
            if raw.damage:
                raise DataError(raw.damage)
            if not 0 <= raw.stamp_ns < _LATEST_NS:
                raise DataError("recorded at an impossible time")
            stamp_ns, frame = header(raw.data)
        except DataError as error:
            self.rejected[str(error)] += 1
            return
        if frame not in self.frames:
            self.frames.append(frame)
        self.recorded_ns.append(raw.stamp_ns)
        self.repeat.append(repeat)
        self.stamp_ns.append(stamp_ns)
        self.frame.append(self.frames.index(frame))


def header(data: bytes) -> tuple[int, str]:
    """Stamp in nanoseconds and frame of a CDR message that begins with a `std_msgs/Header`.

    `DataError` if it can't be one.

    >>> header(bytes([0, 1, 0, 0]) + struct.pack("<iII4s", 1, 5, 4, b"map"))
    (1000000005, 'map')
    """
    start = bytes(data[: _CDR_HEADER + 12])
    if len(start) < _CDR_HEADER + 12:
        raise DataError("it is cut off")
    order = "<" if start[1] & 1 else ">"
    seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", start, _CDR_HEADER)
    name = bytes(data[len(start) : len(start) + min(length, _LONGEST_FRAME)])
    if seconds < 0 or nanoseconds >= 10**9 or len(name) < length:
        raise DataError("its header is damaged")
    return seconds * 10**9 + nanoseconds, name.rstrip(b"\0").decode(errors="replace").lstrip("/")


@dataclass(eq=False)
class RecordingIndex:
    """What a recording holds.

    Attributes:
        topics: index of each topic of images, clouds and labels, by name.
        infos: CameraInfos of each topic where they change: from which stamp on, and what they say.
        info_counts: how many were read, by topic.
        info_rejected: CameraInfos that can't be read: topic to reason to number.
        stopped: where and why reading ended before the end; empty if it didn't.
    """

    topics: dict[str, TopicIndex]
    infos: dict[str, list[tuple[int, CameraInfo]]]
    info_counts: Counter[str] = field(default_factory=Counter)
    info_rejected: dict[str, Counter[str]] = field(default_factory=dict)
    stopped: str = ""


def index_recording(
    reader: BagReader, topics: RecordingTopics, on_message: Callable[[], None] = lambda: None
) -> RecordingIndex:
    """Read a recording through, up to where it is damaged."""
    index = RecordingIndex(
        {name: TopicIndex() for name in sorted(topics.payloads)},
        {name: [] for name in sorted(topics.infos)},
    )
    latest: dict[str, tuple[int, int]] = {}
    try:
        for raw in reader.messages(topics.payloads | topics.infos):
            if raw.topic in index.infos:
                _add_info(reader, raw, index)
            else:
                before_ns, repeat = latest.get(raw.topic, (-1, 0))
                repeat = repeat + 1 if raw.stamp_ns == before_ns else 0
                latest[raw.topic] = raw.stamp_ns, repeat
                index.topics[raw.topic].add(raw, repeat)
            on_message()
    except DataError as error:
        index.stopped = str(error)
    index.stopped = index.stopped or reader.stopped or ""
    return index


def _add_info(reader: BagReader, raw: RawMessage, index: RecordingIndex) -> None:
    try:
        info = reader.decode(raw)
    except DataError as error:
        reasons = index.info_rejected.setdefault(raw.topic, Counter())
        reasons[message_fault(error)] += 1
        return
    assert isinstance(info, CameraInfo)
    index.info_counts[raw.topic] += 1
    known = index.infos[raw.topic]
    if not known or _content(known[-1][1]) != _content(info):
        known.append((info.stamp_ns or raw.stamp_ns, info))


def _content(info: CameraInfo) -> tuple[object, ...]:
    return info.frame_id, *camera_info_content(info)


def message_fault(error: DataError) -> str:
    """What is wrong with a message that `BagReader.decode` refuses, without which one it is."""
    return str(error).partition(" cannot be used: ")[2] or str(error)
