"""Accounts for the topics of a recording: what they are, and what becomes of each message."""

from kd3d_core.data.bag import BagReader
from kd3d_core.extract.candidates import BEHIND_DAMAGE
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.index import RecordingIndex
from kd3d_core.extract.summary import Tally, TopicReport
from kd3d_core.extract.sync import look_at_clock
from kd3d_core.extract.topics import RecordingTopics


def topic_reports(reader: BagReader, index: RecordingIndex) -> tuple[TopicReport, ...]:
    """All topics of a recording; more about those that were indexed."""
    reports = []
    for topic in reader.topics.values():
        found = index.topics.get(topic.name)
        if found is None or not len(found):
            reports.append(TopicReport(topic.name, topic.type, topic.count))
            continue
        clock = look_at_clock(found)
        reports.append(
            TopicReport(
                topic.name,
                topic.type,
                topic.count,
                clock.rate_hz,
                found.recorded_ns[0],
                found.recorded_ns[-1],
                clock.zero_stamps,
                clock.duplicate_stamps,
                clock.jumps,
                clock.jump_count,
            )
        )
    for name, (_, count) in reader.foreign.items():
        if name not in reader.topics:
            reports.append(TopicReport(name, "", count))
    return tuple(reports)


def info_tally(reader: BagReader, index: RecordingIndex, topic: str) -> Tally:
    """What became of CameraInfos: all are read."""
    used, rejected = index.info_counts[topic], dict(index.info_rejected.get(topic, {}))
    if lacking := reader.topics[topic].count - used - sum(rejected.values()):
        rejected[BEHIND_DAMAGE] = lacking
    return Tally(used, {}, rejected)


def other_tallies(
    reader: BagReader, topics: RecordingTopics, config: ExtractConfig
) -> dict[str, Tally]:
    """What becomes of the messages on topics that belong to no camera, by topic."""
    needs_transforms = bool((topics.points and not config.extrinsics) or config.min_motion_m)
    tallies = {}
    for topic in reader.topics.values():
        if topic.name in topics.payloads or topic.name in topics.infos:
            continue
        if topic.name in topics.transforms and needs_transforms:
            tallies[topic.name] = Tally(topic.count)
        else:
            tallies[topic.name] = Tally(0, {"no frame needs them": topic.count})
    for name, (reason, count) in reader.foreign.items():
        if name not in reader.topics:
            tallies[name] = Tally(0, {}, {reason: count})
    return tallies
