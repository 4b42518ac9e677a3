"""The detector node: subscribes to a camera, publishes a pseudo-LiDAR cloud and 3D boxes.

Subscribes
    image (sensor_msgs/Image) or image/compressed (sensor_msgs/CompressedImage), camera_info
    (sensor_msgs/CameraInfo): newest frame only, with the QoS that their publishers offer, so that a
    latched CameraInfo is seen as well.
    /tf_static (tf2_msgs/TFMessage): frames that the parameters detector_frame, target_frame,
    tracking_frame or gravity_frame name; also to warn when another node publishes the virtual
    frame too.
    /tf (tf2_msgs/TFMessage): the same of frames that move. tf2_ros isn't needed.
    With lazy, images and CameraInfo only while somebody subscribes to a result.
Publishes, all with the image's stamp
    ~/points (sensor_msgs/PointCloud2), ~/detections (vision_msgs/Detection3DArray),
    ~/detections_2d (vision_msgs/Detection2DArray, pixels of the rectified image, in the camera's
    frame), ~/markers (visualization_msgs/MarkerArray).
    ~/depth (sensor_msgs/Image, 32FC1, metres, NaN where nothing is known): of the rectified image,
    in the camera's frame. ~/debug_image (sensor_msgs/Image) and ~/debug_image/compressed (JPEG in a
    sensor_msgs/CompressedImage): that image with boxes.
    ~/debug/processing_time_ms (std_msgs/Float64): from the image's arrival to the last result.
    ~/debug/pipeline_latency_ms (std_msgs/Float64): from the image's stamp to the last result; it
    means something only if the camera stamps with this node's clock.
    ~/label_info (vision_msgs/LabelInfo), latched: classes, and the lowest score that is published.
    /diagnostics (diagnostic_msgs/DiagnosticArray), once per second.
    /tf_static: camera -> virtual_frame, if detector_frame is empty; /tf if gravity_frame isn't.
Services
    ~/enable (std_srvs/SetBool): false receives no images, and keeps the model. Where std_srvs is
    installed.
Parameters, explained in config/detector.yaml
    score_threshold, score_threshold_CLASS, sampling_ratio, min_range, max_range, remove_ground,
    points_rgb, tracking, max_rate, stale_after, tf_timeout, lazy: may be changed at any time.
    model, device, precision, threads, detector_frame, target_frame, tracking_frame, virtual_frame,
    camera_height, camera_pitch, gravity_frame, image_is_rectified, image_transport,
    image_reliability: may be changed while the node is unconfigured; `configure` reads them.
    autostart, qos_overrides./TOPIC.subscription.POLICY (or .publisher.): at start only.
Lifecycle
    configure loads the model, activate subscribes, deactivate waits for the frame in the model,
    cleanup forgets the model.

Threads: the executor's only receives and puts frames into a mailbox with one slot; one worker
takes them, runs the detector and publishes. rclpy holds the GIL while it takes a message, so more
threads would only cost. While the model loads, in a thread of its own, services and diagnostics go
on.
"""

import gc
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo as CameraInfoMessage

from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, Kd3dError, shown
from kd3d_core.memory import keep_freed_memory
from kd3d_core.messages.vision import LabelInfo
from kd3d_core.models.card import caveat
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.detections import Detector
from kd3d_core.threads import use_threads
from kd3d_ros import diagnostics, health
from kd3d_ros.declare import LiveParameters, unknown_overrides
from kd3d_ros.frames import FrameListener
from kd3d_ros.inputs import Input
from kd3d_ros.intake import Gate, Intake
from kd3d_ros.lifecycle import LoadingNode
from kd3d_ros.parameters import NODE_NAME, DetectorParameters
from kd3d_ros.placement import Placement
from kd3d_ros.profile import use_profile
from kd3d_ros.qos import Entity, QosOverrides
from kd3d_ros.results import NodeOutputs
from kd3d_ros.services import offer_enable
from kd3d_ros.spinning import spin_until_signalled
from kd3d_ros.worker import FrameWorker

LoadDetector = Callable[[str, str, Precision], Detector]
"""Makes a detector of the parameters `model`, `device` and `precision`."""


def load_camera_detector(model: str, device: str, precision: Precision) -> Detector:
    """Load the real one, and run it once: first frames take long."""
    from kd3d_core.runtime.pipeline import CameraDetector

    detector = CameraDetector.from_config(model, device, precision)
    detector.warm_up()
    return detector


class DetectorNode(LoadingNode):
    """Lifecycle node around a detector: loads it in `configure`, receives images while active.

    Attributes:
        counters: what became of the images.
        stages: how long they took.
        gate: which images are received.
        intake: receives them.
    """

    def __init__(
        self,
        load_detector: LoadDetector = load_camera_detector,
        node_name: str = NODE_NAME,
        **node: Any,
    ) -> None:
        """
        Args:
            load_detector: makes the detector; tests give their own.
            node_name: its name, unless remapped at start.
            node: further arguments of `rclpy.lifecycle.LifecycleNode`.

        Raises:
            ConfigError: when a parameter given at start is refused.
        """
        super().__init__(node_name, **node)
        self._load_detector = load_detector
        try:
            self._overrides = QosOverrides(self)
            self._live = LiveParameters(self, lambda: self.state, self._on_settings)
        except ConfigError:
            self.destroy_node()
            raise
        self.counters = diagnostics.FrameCounters()
        self.stages = diagnostics.StageTimes()
        self._complaints = diagnostics.Complaints(
            self.counters, lambda text: self.get_logger().warning(text)
        )
        self._why_unconfigured = ""
        self._reported = (time.monotonic(), self.counters.values())

        self._frames = FrameListener(self._complaints, self._on_calibration_changed)
        self._frame_inputs: dict[str, Input] = {}
        self._cameras: CameraSource | None = None
        self._detector: Detector | None = None
        self._placement: Placement | None = None
        self._worker: FrameWorker | None = None

        self._outputs = NodeOutputs(self, self._overrides, self._on_watchers)
        self.gate = Gate(lambda: self.settings, self._outputs.results.is_watched)
        self.intake = Intake(
            self, self._overrides, self.gate, self.counters, self._complaints, lambda: self.settings
        )
        offer_enable(self, self.gate, self.intake.update)
        for line in (*unknown_overrides(self), *self._overrides.unused(self._topics)):
            self.get_logger().warning(line)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)
        self.create_timer(1.0, self._on_second, clock=self.steady_clock)
        if self.settings.autostart:
            self.start_by_itself()

    @property
    def settings(self) -> DetectorParameters:
        """The parameters as they are now."""
        return self._live.values

    @property
    def _topics(self) -> set[tuple[str, Entity]]:
        inputs = (self.intake.topic, "camera_info", "/tf", "/tf_static")
        heard: set[tuple[str, Entity]] = {
            (self.resolve_topic_name(name), "subscription") for name in inputs
        }
        return heard | {(name, "publisher") for name in self._outputs.topics}

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. FAILURE, with the reason in the log and the diagnostics, if it can't."""
        settings = self.settings
        self._outputs.frames = settings.frames(self.get_namespace(), self.get_name())
        try:
            self._cameras = CameraSource(
                self._frames.transforms,
                detector_frame=settings.detector_frame,
                camera_height=settings.camera_height,
                camera_pitch=settings.camera_pitch,
                gravity_frame=settings.gravity_frame,
                image_is_rectified=settings.image_is_rectified,
                image_topic=self.intake.topic,
            )
            use_threads(settings.threads)
            detector = self._load_detector(settings.model, settings.device, settings.precision)
        except Exception as error:  # rclpy would swallow it without a word
            expected = isinstance(error, Kd3dError)
            why = str(error) if expected else f"{type(error).__name__}: {error}"
            self._why_unconfigured = shown(why, diagnostics.LINE)
            details = "" if expected else f"\n{traceback.format_exc()}"
            self.get_logger().error(f"cannot configure: {self._why_unconfigured}{details}")
            return TransitionCallbackReturn.FAILURE
        self._why_unconfigured = ""
        self._detector = detector
        # The many objects of torch and transformers stay; without this the garbage collector looks
        # through all of them every now and then, in the middle of a frame.
        gc.collect()
        gc.freeze()
        self._tell_of(detector)
        return TransitionCallbackReturn.SUCCESS

    def _tell_of(self, detector: Detector) -> None:
        """Say what has been loaded, in the log and on `~/label_info`."""
        card, log = detector.card, self.get_logger()
        log.info(
            f"loaded {detector.description}; trained on: {card.trained_on}; score thresholds: "
            f"{card.describe_thresholds()}"
        )
        if doubt := caveat(detector.trained, card):
            log.warning(doubt.text)
        if not card.box_errors:
            log.info("pose covariances are zero: the model's card has no box_errors")
        self._publish_label_info()

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the worker."""
        assert self._detector is not None
        assert self._cameras is not None
        frames = self._outputs.frames
        self._placement = Placement(
            self._cameras,
            self._frames.transforms,
            frames,
            self._outputs,
            self._complaints,
            lambda: self.settings,
        )
        self._worker = FrameWorker(
            self._detector,
            self._placement,
            self._outputs,
            self.counters,
            self.stages,
            self._complaints,
            settings=lambda: self.settings,
            now_ns=lambda: self.get_clock().now().nanoseconds,
        )
        self._worker.start()
        self.intake.start(self._worker.put, self._on_camera_info)
        self._frame_inputs = self._frames.listen(
            self,
            self._overrides,
            own_frame="" if self.settings.detector_frame else frames.detector,
            learns=self.settings.needs_tf,
        )
        self.get_logger().info(
            f"active: images from {self.intake.topic}, results in {frames.results!r}"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop receiving, and wait for the frame that is in the model."""
        self._stop_working()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the model, and give back its memory: the next one may need it."""
        self._detector = None
        gc.unfreeze()
        gc.collect()
        if "torch" in sys.modules:  # not before a model has been loaded
            sys.modules["torch"].cuda.empty_cache()  # does nothing where there is no CUDA
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self._stop_working()
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        return self.on_shutdown(state)

    def finish(self) -> None:
        """Shut down from any state, and see that subscribers have got what was published.

        A model that is being loaded is loaded to the end, but not activated.
        """
        super().finish()
        if self.context.ok():
            self._outputs.results.flush(0.5)
            self._diagnostics.wait_for_all_acked(Duration(seconds=0.2))

    def _stop_working(self) -> None:
        self.intake.stop()
        for listening in self._frame_inputs.values():
            listening.close()
        self._frame_inputs = {}
        if self._worker is None:
            return
        self._worker.stop()
        self._worker = self._placement = None
        self.publish_diagnostics()
        self.get_logger().info(f"stopped: {self.counters}")

    # What happens, on the executor's thread

    def _on_camera_info(self, message: CameraInfoMessage) -> None:
        if self._cameras is not None:
            self._cameras.set_info(message, message.header.frame_id)
            self._on_calibration_changed()

    def _on_calibration_changed(self) -> None:
        if (placement := self._placement) is not None:
            placement.calibration_changed()

    def _on_watchers(self) -> None:
        """Subscribers to results have come or gone."""
        self.intake.update()

    def _on_settings(self) -> None:
        """A parameter has been changed; they are first set before there is anything else."""
        if hasattr(self, "intake"):
            self.intake.update()
            self._publish_label_info()

    def _on_second(self) -> None:
        # At the latest; where rclpy tells of new publishers and subscribers, at once.
        self.intake.update()
        for listening in self._frame_inputs.values():
            listening.follow()
        self.publish_diagnostics()

    # Telling

    def _publish_label_info(self) -> None:
        if (detector := self._detector) is None:
            return
        names = detector.class_names
        lowest = min(self.settings.thresholds(detector.card, names), default=0.0)
        now_ns = self.get_clock().now().nanoseconds
        info = LabelInfo(now_ns, self._outputs.frames.results, names, lowest)
        self._outputs.label_info.publish(info)

    def publish_diagnostics(self) -> None:
        """Publish the state, the counters and the times on `/diagnostics`."""
        if not self.context.ok():
            return
        now, values = time.monotonic(), self.counters.values()
        before_time, before = self._reported
        self._reported = now, values
        images, worker, placement = self.intake.images, self._worker, self._placement
        own_parents = placement.parents if placement else set()
        state = health.Health(
            state=self.state,
            counters=values,
            before=before,
            interval_s=now - before_time,
            stages_ms=self.stages.medians(),
            topic=self.intake.topic,
            publishers=images.publishers if images else 0,
            connected=images.connected if images else 0,
            reliability=images.reliability if images else "",
            camera_frame=self._cameras.frame_of("") if self._cameras else "",
            closed_by=self.gate.closed_by(),
            device_memory=health.device_memory() if self._detector else "",
            conflict=self._frames.conflict(self._outputs.frames.detector, own_parents),
            trouble=self._complaints.last if self._detector else self._why_unconfigured,
            detector=self._detector,
            camera_notices=tuple(worker.camera_notices.values()) if worker else (),
        )
        message = DiagnosticArray(status=[health.status(self.get_fully_qualified_name(), state)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main(
    args: Sequence[str] | None = None, make_node: Callable[[], DetectorNode] = DetectorNode
) -> int:
    """Run the node until SIGINT or SIGTERM, then let the frame in the model finish.

    A model that is being loaded is loaded to the end, but then not activated. A signal later than
    a second after the first ends the process at once.

    Args:
        args: command line, program first; the process's own if None.
        make_node: makes the node; for tests and benchmarks.

    Returns:
        Exit status: 0, or 1 if a parameter was refused.
    """
    keep_freed_memory()
    use_profile("fastdds_detector.xml")
    return spin_until_signalled(args, make_node)


if __name__ == "__main__":
    sys.exit(main())
