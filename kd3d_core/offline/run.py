"""The loop of `kd3d-detect`: every frame through the detector, once, and to every sink."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from kd3d_core.data.calibration_check import CalibrationSample, check_calibration
from kd3d_core.errors import Kd3dError, Once
from kd3d_core.frames import Frame, FrameResult
from kd3d_core.models.card import caveat
from kd3d_core.offline.placing import Placer
from kd3d_core.offline.sinks import Sink
from kd3d_core.offline.source import FrameReference, Source
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
    """How many frames were detected in, how many an earlier run had done, and which were bad.

    `interrupted` says whether Ctrl-C ended the run before its source did.
    """

    detected: int
    kept: int
    bad: tuple[BadFrame, ...]
    interrupted: bool = False


def detect_frames(
    source: Source,
    detector: Detector,
    store: ResultStore | None,
    sinks: Sequence[Sink],
    score_threshold: float | None = None,
    on_frame: Callable[[], None] = lambda: None,
    tracker: Tracker | None = None,
    all_boxes: bool = False,
) -> Outcome:
    """Detect in all frames, and give what was found to the sinks, in the frames' order.

    Args:
        detector: asked only about frames that `store` doesn't know.
        store: keeps every answer as soon as it is there; None: nobody needs them again.
        sinks: entered before the first frame and left after the last, or after Ctrl-C. What an
            error cuts off leaves none of the outputs that are one file.
        score_threshold: boxes with a lower score are kept in `store` only; default: the model's
            own thresholds, by class.
        on_frame: called after each frame.
        tracker: follows the objects; None: each frame is on its own.
        all_boxes: whether pictures show boxes of several classes on one object.

    Raises:
        Kd3dError: an output can't be written, the source breaks off, or no frame at all could be
            used.
    """
    run = _Run(source, detector, store, sinks, score_threshold, tracker, all_boxes)
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        try:
            for reference in source.references:
                run.take(reference)
                on_frame()
        except KeyboardInterrupt:
            run.interrupted = True
            if not run.detected + run.kept:
                raise
        if run.bad and not run.detected + run.kept:
            raise Kd3dError(
                f"none of the {len(run.bad)} frames can be used; {run.bad[0].name}: "
                f"{run.bad[0].reason}"
            )
    return Outcome(run.detected, run.kept, tuple(run.bad), run.interrupted)


class _Run:
    """Frames on their way, and how many there were."""

    def __init__(
        self,
        source: Source,
        detector: Detector,
        store: ResultStore | None,
        sinks: Sequence[Sink],
        score_threshold: float | None,
        tracker: Tracker | None,
        all_boxes: bool,
    ) -> None:
        self.detected = self.kept = 0
        self.bad: list[BadFrame] = []
        self.interrupted = False
        self._source, self._detector, self._store, self._sinks = source, detector, store, sinks
        self._thresholds = detector.card.thresholds(detector.class_names, score_threshold)
        self._tracker, self._all_boxes = tracker, all_boxes
        self._place = Placer(detector, store, source.place) if source.place else None
        self._warn, self._tell = Once(log.warning), Once(log.info)

    def take(self, reference: FrameReference) -> None:
        """Detect in a frame, and give what was found to the sinks."""
        try:
            frame = reference.load()
            if self._place is not None:
                frame = self._place(frame)
            self._speak(frame)
            found = self._store.read(frame) if self._store else None
            is_new = found is None
            found = self._detector(frame.image, frame.camera) if found is None else found
        except Kd3dError as error:
            self.bad.append(BadFrame(reference.name, str(error)))
            for sink in self._sinks:
                sink.leave_out(reference.name, str(error))
            return
        if is_new and self._store:
            self._store.write(frame, found)
        self.detected, self.kept = self.detected + is_new, self.kept + (not is_new)
        result = FrameResult(
            frame,
            found.above(self._thresholds),
            self._detector.class_names,
            self._source.results_frame,
            caveat(self._detector.trained, self._detector.card),
            all_boxes=self._all_boxes,
        )
        if self._tracker is not None:
            result = result.tracked(self._tracker)
        for sink in self._sinks:
            sink.add(result)

    def _speak(self, frame: Frame) -> None:
        """Say once what is to be said of the frame's camera."""
        for each in check_calibration(CalibrationSample(frame.name, frame.camera)):
            self._warn(f"{frame.name}: calibration looks wrong: {each.text}", each.kind)
        for kind, text in self._detector.notices(frame.camera).items():
            self._warn(f"{frame.name}: {text}", kind)
        if frame.doubt:
            self._warn(f"{frame.name}: {frame.doubt}", "doubt")
        for note in frame.notes:
            self._tell(f"{frame.name}: {note}", note)
