"""The thread that takes images out of the mailbox, runs the detector and publishes."""

import time
from collections.abc import Callable
from threading import Thread

import numpy as np

from kd3d_core.frames import Frame, FrameResult
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.pixels import PixelsError
from kd3d_core.messages.types import CompressedImage, Image
from kd3d_core.models.card import caveat
from kd3d_core.outputs import FrameTimes
from kd3d_core.runtime.detections import Detections, Detector
from kd3d_core.runtime.rejection import RejectedError
from kd3d_core.tracking import Tracker
from kd3d_ros.diagnostics import Complaints, FrameCounters, StageTimes
from kd3d_ros.inputs import ReceivedImage, read
from kd3d_ros.mailbox import Mailbox
from kd3d_ros.parameters import DetectorParameters
from kd3d_ros.placement import Placement
from kd3d_ros.results import NodeOutputs
from kd3d_ros.sampling import Sampling


class FrameWorker:
    """One thread, one detector, one frame at a time; the newest that has arrived.

    It runs from `start` to `stop`, and can be started again. A frame that can't be used, or on
    which the detector raises, is counted and complained about once; the thread goes on.

    Attributes:
        camera_notices: how the camera differs from those of the model's training, by kind.
    """

    def __init__(
        self,
        detector: Detector,
        placement: Placement,
        outputs: NodeOutputs,
        counters: FrameCounters,
        stages: StageTimes,
        complaints: Complaints,
        *,
        settings: Callable[[], DetectorParameters],
        now_ns: Callable[[], int],
    ) -> None:
        """
        Args:
            detector: what to run.
            placement: which camera took an image, and where results go.
            outputs: where answers go.
            counters: filled here, apart from what never reaches the mailbox.
            stages: filled here.
            complaints: told about frames that can't be used.
            settings: asked for each frame, as they may change.
            now_ns: time on the clock that stamps are compared with.
        """
        self._detector = detector
        self._placement = placement
        self._outputs = outputs
        self._counters = counters
        self._stages = stages
        self._complaints = complaints
        self._settings = settings
        self._now_ns = now_ns
        self._sampling = Sampling(detector, complaints)
        self._mailbox: Mailbox[ReceivedImage] = Mailbox()
        self._tracker: Tracker | None = None
        self._last_stamp_ns = 0
        self.camera_notices: dict[str, str] = {}
        self._dropped_before = counters.dropped
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to work."""
        self._placement.open()
        self._mailbox.open()
        self._thread = Thread(target=self._work, name="detector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the frame in the detector, drop one that waits, and end the thread."""
        self._mailbox.close()
        self._placement.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._sampling.restore()
        self._count_drops()

    def put(self, image: ReceivedImage) -> None:
        """Work on `image` next, instead of one that waits already. Never blocks."""
        self._mailbox.put(image)
        self._count_drops()

    def _count_drops(self) -> None:
        self._counters.dropped = self._dropped_before + self._mailbox.dropped

    def _work(self) -> None:
        while (received := self._mailbox.take()) is not None:
            try:
                self._process(received)
                self._counters.processed += 1
            except _StaleError:
                self._counters.skipped["stale"] += 1
            except (RejectedError, PixelsError) as error:
                self._complaints.reject(error)
            except Exception as error:  # whatever it is, the next frame may be better
                self._complaints.fail(error)

    def _process(self, received: ReceivedImage) -> None:
        taken = time.perf_counter()
        settings = self._settings()
        image = read(received.data, received.kind)
        self._check_order(image.stamp_ns)
        age_ns = self._now_ns() - image.stamp_ns
        if 0 < 1e9 * settings.stale_after < age_ns:
            raise _StaleError
        pixels = image.rgb()
        camera = self._placement.camera(image, (pixels.shape[1], pixels.shape[0]))
        self._tell_notices(camera)
        converted = time.perf_counter()
        detections = self._sampling.detect(pixels, camera, settings.sampling_ratio)
        detected = time.perf_counter()
        self._outputs.results.publish(self._result(image, pixels, camera, detections, settings))
        published = time.perf_counter()

        total_ms = 1e3 * (published - received.arrived)
        detector_ms = 1e3 * (detected - converted)
        self._stages.add(
            {
                "input_age": 1e-6 * age_ns,
                "wait": 1e3 * (taken - received.arrived),
                "convert": 1e3 * (converted - taken),
                "detector": detector_ms,
                **{f"detector/{name}": value for name, value in detections.timings.items()},
                "publish": 1e3 * (published - detected),
                "overhead": total_ms - detector_ms,
                "total": total_ms,
            }
        )
        self._outputs.times.publish(FrameTimes(total_ms, 1e-6 * (self._now_ns() - image.stamp_ns)))

    def _result(
        self,
        image: Image | CompressedImage,
        pixels: np.ndarray,
        camera: PinholeCamera,
        detections: Detections,
        settings: DetectorParameters,
    ) -> FrameResult:
        """What is published of a frame."""
        card, class_names = self._detector.card, self._detector.class_names
        camera_frame = self._placement.camera_frame(image)
        chosen = (
            detections.above(settings.thresholds(card, class_names))
            .between(settings.min_range, settings.max_range, camera)
            .without_ground(settings.remove_ground)
        )
        frame_from_detector = self._placement.frame_from_detector(image, camera)
        world_from_detector = None
        if settings.tracking:
            world_from_detector = self._placement.world_from_detector(image, camera)
        frame = Frame(
            str(image.stamp_ns),
            image.stamp_ns,
            pixels,
            camera,
            camera_frame=camera_frame,
            world_from_detector=world_from_detector,
        )
        result = FrameResult(
            frame,
            chosen,
            class_names,
            self._outputs.frames.results,
            caveat(self._detector.trained, card),
            frame_from_detector,
            settings.points_rgb,
            card.box_errors,
        )
        return self._tracked(result) if settings.tracking else self._untracked(result)

    def _tracked(self, result: FrameResult) -> FrameResult:
        if self._tracker is None:
            self._tracker = Tracker(
                say=lambda text: self._complaints.notice("tracking", text, once=text)
            )
        return result.tracked(self._tracker)

    def _untracked(self, result: FrameResult) -> FrameResult:
        self._tracker = None  # what it knows is of another time when it is asked for again
        return result

    def _check_order(self, stamp: int) -> None:
        if stamp < self._last_stamp_ns:
            self._complaints.notice(
                "stamp_went_back", "an image is older than the one before: bag restarted?"
            )
        self._last_stamp_ns = stamp

    def _tell_notices(self, camera: PinholeCamera) -> None:
        """Say how the camera differs from those of the model's training, whenever that changes."""
        notices = dict(self._detector.notices(camera))
        if notices != self.camera_notices:
            self.camera_notices = notices
            for kind, text in notices.items():
                self._complaints.notice(kind, text)


class _StaleError(Exception):
    """An image is older than `stale_after`."""
