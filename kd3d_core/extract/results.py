"""Puts together what a run found in its recordings and made of them."""

from collections import Counter
from collections.abc import Mapping, Sequence

from kd3d_core.extract.frames import WITH_FAULT, FaultyFrame
from kd3d_core.extract.plan import RecordingPlan
from kd3d_core.extract.summary import (
    CameraReport,
    FrameReport,
    Look,
    RecordingReport,
    Tally,
)
from kd3d_core.extract.work import Written


def recording_report(
    plan: RecordingPlan,
    written: Sequence[Written],
    faulty: Sequence[FaultyFrame],
    looks: Mapping[int, Sequence[Look]],
) -> RecordingReport:
    """The report of a recording; `looks` by number of the camera."""
    cameras = tuple(
        _camera_report(
            plan,
            number,
            [each for each in written if each.camera == number],
            [each for each in faulty if each.camera == number],
            tuple(looks.get(number, ())),
        )
        for number in range(len(plan.cameras))
    )
    return RecordingReport(
        plan.path,
        plan.start_ns,
        plan.end_ns,
        plan.reports,
        plan.others,
        cameras,
        plan.stopped,
        plan.doubts,
    )


def _camera_report(
    plan: RecordingPlan,
    number: int,
    written: Sequence[Written],
    faulty: Sequence[FaultyFrame],
    looks: tuple[Look, ...],
) -> CameraReport:
    camera = plan.cameras[number]
    tallies = dict(camera.tallies)
    for topic, part in _parts(plan, number).items():
        tallies[topic] = _with_frames(tallies[topic], part, written, faulty)
    return CameraReport(
        camera.camera,
        tallies,
        tuple(_frame_report(each) for each in written),
        looks,
        camera.max_offset_s,
        camera.doubts,
        written[0].row["focal_px"] if written else None,
        written[0].row["height_m"] if written else None,
    )


def _parts(plan: RecordingPlan, camera: int) -> dict[str, str]:
    """Which part of a frame comes from which topic."""
    parts = {
        plan.topics.cameras[camera].images: "image",
        plan.topics.points: "scan",
        plan.topics.labels: "labels",
    }
    return {topic: part for topic, part in parts.items() if topic}


def _with_frames(
    tally: Tally, part: str, written: Sequence[Written], faulty: Sequence[FaultyFrame]
) -> Tally:
    """The tally of a topic with the messages that are in frames of the plan."""
    used, skipped, rejected = 0, Counter(tally.skipped), Counter(tally.rejected)
    for each in written:
        if part == "labels" and each.ref.labels is None:
            continue
        if part == "labels" and each.row["label_fault"]:
            rejected[each.row["label_fault"]] += 1
        else:
            used += 1
    for fault in faulty:
        if fault.part == part:
            rejected[fault.reason] += 1
        elif part != "labels" or fault.ref.labels is not None:
            skipped[WITH_FAULT] += 1
    return Tally(used, dict(skipped), dict(rejected))


def _frame_report(frame: Written) -> FrameReport:
    image_ns = frame.ref.images[frame.camera].message.stamp_ns
    scan = frame.ref.scan
    return FrameReport(
        frame.ref.name,
        image_ns if scan is None else scan.stamp_ns,
        image_ns,
        frame.row["points"],
        frame.row["dropped"],
        frame.row["in_image"],
        frame.row["labels"] or 0,
        sum(file.size for file in frame.files),
        frame.row["motion"],
    )
