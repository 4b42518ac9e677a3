"""The thread that takes images out of the mailbox, runs the detector and publishes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread

from kd3d_core.frames import Frame, FrameResult
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.pixels import PixelsError
from kd3d_core.messages.types import CompressedImage, Image, Transform, Transforms
from kd3d_core.models.card import caveat
from kd3d_core.outputs import FrameTimes
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.detections import Detector
from kd3d_core.runtime.rejection import NotYetError, RejectedError
from kd3d_ros.diagnostics import Complaints, FrameCounters, StageTimes
from kd3d_ros.inputs import read
from kd3d_ros.mailbox import Mailbox
from kd3d_ros.parameters import DetectorParameters
from kd3d_ros.results import NodeOutputs

_PATIENCE_S = 1.0
"""How long the first frame waits for its CameraInfo and extrinsics: bags and drivers often send
the image first, and it would be a pity to lose it."""


@dataclass(frozen=True)
class ReceivedImage:
    """An image message in CDR, and `time.perf_counter()` when it arrived.

    `kind` is `Image` or `CompressedImage`.
    """

    data: bytes
    arrived: float
    kind: type[Image] | type[CompressedImage] = Image


class FrameWorker:
    """One thread, one detector, one frame at a time; the newest that has arrived.

    It runs from `start` to `stop`, and can be started again. A frame that can't be used, or on
    which the detector raises, is counted and complained about once; the thread goes on.

    Attributes:
        parents: camera frames of which the virtual frame was published as a child.
    """

    def __init__(
        self,
        detector: Detector,
        cameras: CameraSource,
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
            cameras: which camera took an image.
            outputs: where answers go.
            counters: filled here, apart from `received` and `skipped`.
            stages: filled here.
            complaints: told about frames that can't be used.
            settings: asked for each frame, as they may change.
            now_ns: time on the clock that stamps are compared with.
        """
        self._detector = detector
        self._cameras = cameras
        self._outputs = outputs
        self._counters = counters
        self._stages = stages
        self._complaints = complaints
        self._settings = settings
        self._now_ns = now_ns
        self._mailbox: Mailbox[ReceivedImage] = Mailbox()
        self._calibration_changed = Event()
        self._patience_ends: float | None = None
        self._virtual_frame_of: str | None = None
        self._last_stamp_ns = 0
        self.parents: set[str] = set()
        self._doubts: tuple[str, ...] = ()
        self.camera_notices: dict[str, str] = {}
        self._dropped_before = counters.dropped
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to work."""
        self._patience_ends = None
        self._mailbox.open()
        self._thread = Thread(target=self._work, name="detector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the frame in the detector, drop one that waits, and end the thread."""
        self._mailbox.close()
        self._calibration_changed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._count_drops()

    def put(self, image: ReceivedImage) -> None:
        """Work on `image` next, instead of one that waits already. Never blocks."""
        self._mailbox.put(image)
        self._count_drops()

    def calibration_changed(self) -> None:
        """Say that a CameraInfo or a transform has come: a frame may be waiting for it."""
        self._calibration_changed.set()

    def _count_drops(self) -> None:
        self._counters.dropped = self._dropped_before + self._mailbox.dropped

    def _work(self) -> None:
        while (received := self._mailbox.take()) is not None:
            try:
                self._process(received)
                self._counters.processed += 1
            except (RejectedError, PixelsError) as error:
                self._complaints.reject(error)
            except Exception as error:  # whatever it is, the next frame may be better
                self._complaints.fail(error)

    def _process(self, received: ReceivedImage) -> None:
        taken = time.perf_counter()
        image = read(received.data, received.kind)
        stamp = image.stamp_ns
        self._check_order(stamp)
        pixels = image.rgb()
        camera = self._camera_of(image, (pixels.shape[1], pixels.shape[0]))
        camera_frame = self._cameras.frame_of(image.frame_id)
        self._tell_doubts()
        self._tell_notices(camera)
        self._publish_virtual_frame(stamp, camera_frame, camera)
        converted = time.perf_counter()
        detections = self._detector(pixels, camera)
        detected = time.perf_counter()
        card, class_names = self._detector.card, self._detector.class_names
        self._outputs.results.publish(
            FrameResult(
                Frame(str(stamp), stamp, pixels, camera, camera_frame=camera_frame),
                detections.above(self._settings().thresholds(card, class_names)),
                class_names,
                self._outputs.frame_id,
                caveat(self._detector.trained, card),
            )
        )
        published = time.perf_counter()

        total_ms = 1e3 * (published - received.arrived)
        detector_ms = 1e3 * (detected - converted)
        self._stages.add(
            {
                "wait": 1e3 * (taken - received.arrived),
                "convert": 1e3 * (converted - taken),
                "detector": detector_ms,
                **{f"detector/{name}": value for name, value in detections.timings.items()},
                "publish": 1e3 * (published - detected),
                "overhead": total_ms - detector_ms,
                "total": total_ms,
            }
        )
        self._outputs.times.publish(FrameTimes(total_ms, 1e-6 * (self._now_ns() - stamp)))

    def _check_order(self, stamp: int) -> None:
        if stamp < self._last_stamp_ns:
            self._complaints.notice(
                "stamp_went_back", "an image is older than the one before: bag restarted?"
            )
        self._last_stamp_ns = stamp

    def _camera_of(self, image: Image | CompressedImage, size: tuple[int, int]) -> PinholeCamera:
        while True:
            self._calibration_changed.clear()
            try:
                return self._cameras.camera(image.frame_id, *size, image.stamp_ns)
            except NotYetError:
                now = time.monotonic()
                if self._patience_ends is None:
                    self._patience_ends = now + _PATIENCE_S
                if now >= self._patience_ends or not self._mailbox.is_open:
                    raise
                self._calibration_changed.wait(self._patience_ends - now)

    def _tell_doubts(self) -> None:
        """Say what the camera leaves open, whenever that changes."""
        if self._cameras.doubts != self._doubts:
            self._doubts = self._cameras.doubts
            for doubt in self._doubts:
                self._complaints.notice("camera_info", doubt, once=doubt)

    def _tell_notices(self, camera: PinholeCamera) -> None:
        """Say how the camera differs from those of the model's training, whenever that changes."""
        notices = dict(self._detector.notices(camera))
        if notices != self.camera_notices:
            self.camera_notices = notices
            for kind, text in notices.items():
                self._complaints.notice(kind, text)

    def _publish_virtual_frame(self, stamp: int, parent: str, camera: PinholeCamera) -> None:
        """Tell TF where the virtual frame is, whenever the camera's frame has another name."""
        if not self._cameras.is_virtual or parent == self._virtual_frame_of:
            return
        self._virtual_frame_of = parent
        child = self._outputs.frame_id
        if parent:
            self.parents.add(parent)
            transform = Transform(stamp, parent, child, camera.camera_from_lidar)
            self._outputs.static_transforms.publish(Transforms((transform,)))
        else:
            self._complaints.notice(
                "empty_frame_id",
                "neither image nor CameraInfo has a frame_id, so TF can't join the camera and "
                f"{child!r}: set it in the camera driver",
            )
