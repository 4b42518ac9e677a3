"""The loop of `kd3d-detect`: every frame through the detector, once, and to every sink."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kd3d_core.data.calibration_check import CalibrationSample, check_calibration
from kd3d_core.errors import Kd3dError
from kd3d_core.frames import FrameResult
from kd3d_core.models.card import caveat
from kd3d_core.offline.sinks import Sink
from kd3d_core.offline.source import Source
from kd3d_core.offline.store import ResultStore
from kd3d_core.runtime.detections import Detector
from kd3d_core.tracking import Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BadFrame:
    """A frame that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """How many frames were detected in, how many an earlier run had done, and which were bad."""

    detected: int
    kept: int
    bad: tuple[BadFrame, ...]


def detect_frames(
    source: Source,
    detector: Detector,
    store: ResultStore,
    sinks: Sequence[Sink],
    score_threshold: float | None = None,
    on_frame: Callable[[], None] = lambda: None,
    tracker: Tracker | None = None,
) -> Outcome:
    """Detect in all frames, and give what was found to the sinks, in the frames' order.

    Args:
        detector: asked only about frames that `store` doesn't know.
        store: keeps every answer as soon as it is there.
        sinks: entered before the first frame and left after the last. What an error or Ctrl-C
            cuts off leaves none of the outputs that are one file.
        score_threshold: boxes with a lower score are kept in `store` only; default: the model's
            own thresholds, by class.
        tracker: follows the objects; None: each frame is on its own.

    Raises:
        Kd3dError: an output can't be written, the source breaks off, or no frame at all could be
            used.
    """
    detected = kept = 0
    bad = []
    thresholds = detector.card.thresholds(detector.class_names, score_threshold)
    said: set[str] = set()
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        for reference in source.references:
            try:
                frame = reference.load()
                findings = check_calibration(CalibrationSample(frame.name, frame.camera))
                notices = {
                    **{each.kind: f"calibration looks wrong: {each.text}" for each in findings},
                    **detector.notices(frame.camera),
                }
                for kind, text in notices.items():
                    if kind not in said:
                        log.warning("%s: %s", frame.name, text)
                        said.add(kind)
                found = store.read(frame)
                is_new = found is None
                found = detector(frame.image, frame.camera) if found is None else found
            except Kd3dError as error:
                bad.append(BadFrame(reference.name, str(error)))
                on_frame()
                continue
            if is_new:
                store.write(frame, found)
            detected, kept = detected + is_new, kept + (not is_new)
            result = FrameResult(
                frame,
                found.above(thresholds),
                detector.class_names,
                source.results_frame,
                caveat(detector.trained, detector.card),
            )
            if tracker is not None:
                result = result.tracked(tracker)
            for sink in sinks:
                sink.add(result)
            on_frame()
        if bad and not detected + kept:
            raise Kd3dError(
                f"none of the {len(bad)} frames can be used; {bad[0].name}: {bad[0].reason}"
            )
    return Outcome(detected, kept, tuple(bad))
