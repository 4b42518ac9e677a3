"""The detector node: subscribes to a camera, publishes a pseudo-LiDAR cloud and 3D boxes.

Subscribes
    image (sensor_msgs/Image), camera_info (sensor_msgs/CameraInfo): newest frame only.
    /tf_static, /tf (tf2_msgs/TFMessage): extrinsics, if the parameter detector_frame names a frame.
Publishes, all with the image's stamp
    ~/points (sensor_msgs/PointCloud2), ~/detections (vision_msgs/Detection3DArray),
    ~/markers (visualization_msgs/MarkerArray).
    ~/debug/processing_time_ms (std_msgs/Float64): from the image's arrival to the last result.
    ~/debug/pipeline_latency_ms (std_msgs/Float64): from the image's stamp to the last result; it
    means something only if the camera stamps with this node's clock.
    /diagnostics (diagnostic_msgs/DiagnosticArray), once per second.
    /tf_static: camera -> virtual_frame, if detector_frame is empty.

Threads: the executor's only receives and puts frames into a mailbox with one slot; one worker
takes them, runs the detector and publishes. rclpy holds the GIL while it takes a message, so more
threads would only cost.
"""

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event
from typing import Any

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from kd3d_core.errors import CalibrationError, ConfigError, Kd3dError
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.memory import keep_freed_memory
from kd3d_core.messages.decode import stamp_ns, transforms
from kd3d_core.models.card import caveat
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.detections import Detector
from kd3d_ros import diagnostics, parameters
from kd3d_ros.parameters import Precision
from kd3d_ros.results import NodeOutputs
from kd3d_ros.worker import FrameWorker, ReceivedImage

# Best effort matches every publisher. An image that DDS overwrites in its queue is seen by no
# counter, so there is room for a few; taking them is quick, and the mailbox keeps only the newest.
_IMAGES = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_MOVING = QoSProfile(depth=100)
_TF_HISTORY_NS = 10 * 10**9  # as tf2 keeps it

LoadDetector = Callable[[str, str, Precision], Detector]
"""Makes a detector of the parameters `model`, `device` and `precision`."""


def load_camera_detector(model: str, device: str, precision: Precision) -> Detector:
    """Load the real one, and run it once: first frames take long."""
    from kd3d_core.runtime.pipeline import CameraDetector

    detector = CameraDetector.from_config(model, device, precision)
    detector.warm_up()
    return detector


class DetectorNode(LifecycleNode):
    """Lifecycle node around a detector: loads it in `configure`, receives images while active."""

    def __init__(
        self,
        load_detector: LoadDetector = load_camera_detector,
        node_name: str = "kd3d_detector",
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
        self.settings = parameters.DetectorParameters()
        self.add_on_set_parameters_callback(self._on_parameters)
        try:
            parameters.declare(self)
        except ConfigError:
            self.destroy_node()
            raise
        for line in parameters.unknown_overrides(self):
            self.get_logger().warning(line)

        self.counters = diagnostics.FrameCounters()
        self.stages = diagnostics.StageTimes()
        self._complaints = diagnostics.Complaints(lambda text: self.get_logger().warning(text))
        self._why_unconfigured = ""
        self._reported = (time.monotonic(), self.counters.values())
        self._last_stamp_ns = 0

        self._transforms = TransformBuffer(_TF_HISTORY_NS)
        self._cameras: CameraSource | None = None
        self._detector: Detector | None = None
        self._worker: FrameWorker | None = None
        self._sensors: list[Any] = []

        self._outputs = NodeOutputs(self, self.settings.results_frame)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)

        # Steady, so that a simulated clock that stands still stops neither.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self.publish_diagnostics, clock=steady)
        if self.settings.autostart:
            self._starter = self.create_timer(0.001, self._start, clock=steady)

    # Lifecycle

    def _start(self) -> None:
        """Configure, then activate: in two calls, so that `main` can stop between them."""
        if self.state == "unconfigured":
            if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
                return
        elif self.state == "inactive":
            self.trigger_activate()
        self._starter.cancel()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. FAILURE, with the reason in the log and the diagnostics, if it can't."""
        settings = self.settings
        try:
            self._cameras = CameraSource(
                self._transforms,
                detector_frame=settings.detector_frame,
                camera_height=settings.camera_height,
                image_is_rectified=settings.image_is_rectified,
                image_topic=self._image_topic,
            )
            detector = self._load_detector(settings.model, settings.device, settings.precision)
        except Kd3dError as error:
            self._why_unconfigured = str(error)
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # rclpy would swallow it without a word
            self._why_unconfigured = f"{type(error).__name__}: {error}"
            self.get_logger().error(
                f"cannot configure: {self._why_unconfigured}\n{traceback.format_exc()}"
            )
            return TransitionCallbackReturn.FAILURE
        self._why_unconfigured = ""
        self._detector = detector
        # The many objects of torch and transformers stay; without this the garbage collector looks
        # through all of them every now and then, in the middle of a frame.
        gc.collect()
        gc.freeze()
        card = detector.card
        self.get_logger().info(
            f"loaded {detector.description}; trained on: {card.trained_on}; score thresholds: "
            f"{card.describe_thresholds()}"
        )
        if doubt := caveat(detector.trained, card):
            self.get_logger().warning(doubt.text)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, and start the worker."""
        assert self._detector is not None
        assert self._cameras is not None
        self._worker = FrameWorker(
            self._detector,
            self._cameras,
            self._outputs,
            self.counters,
            self.stages,
            self._complaints,
            score_threshold=lambda: self.settings.score_threshold,
            now_ns=lambda: self.get_clock().now().nanoseconds,
        )
        self._worker.start()
        # A group of their own for each activation: on Humble, destroying a subscription whose
        # message is about to be taken leaves its group locked for ever.
        group = MutuallyExclusiveCallbackGroup()
        wanted: list[tuple[Any, str, Any, QoSProfile]] = [
            (Image, "image", self._on_image, _IMAGES),  # first in line when both have come
            (CameraInfo, "camera_info", self._on_camera_info, _NEWEST),
        ]
        if self.settings.detector_frame:
            wanted += [
                (TFMessage, "/tf_static", self._on_tf_static, _LATCHED),
                (TFMessage, "/tf", self._on_tf, _MOVING),
            ]
        self._sensors = [
            self.create_subscription(kind, topic, callback, qos, callback_group=group)
            for kind, topic, callback, qos in wanted
        ]
        self.get_logger().info(
            f"active: images from {self._image_topic}, results in {self.settings.results_frame!r}"
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
        torch.cuda.empty_cache()  # does nothing where there is no CUDA
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self._stop_working()
        return self.on_cleanup(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        return self.on_shutdown(state)

    def finish(self) -> None:
        """Shut down from any state, and see that subscribers have got what was published."""
        if self.state != "finalized":
            self.trigger_shutdown()
        if self.context.ok():
            self._outputs.results.flush(0.5)
            self._diagnostics.wait_for_all_acked(Duration(seconds=0.2))

    @property
    def state(self) -> str:
        """Lifecycle state: `unconfigured`, `inactive`, `active`, `finalized` or one between."""
        return str(self._state_machine.current_state[1])

    def _stop_working(self) -> None:
        for subscription in self._sensors:
            self.destroy_subscription(subscription)
        self._sensors = []
        if self._worker is None:
            return
        self._worker.stop()
        self._worker = None
        self.publish_diagnostics()
        self.get_logger().info(f"stopped: {self.counters}")

    # Receiving, on the executor's thread

    def _on_image(self, message: Image) -> None:
        self.receive(ReceivedImage(message, time.perf_counter()))

    def receive(self, image: ReceivedImage) -> None:
        """Count an image, and give it to the worker if anybody wants results."""
        if self._worker is None:
            return  # taken by the executor just before it was deactivated
        self.counters.received += 1
        now_ns = stamp_ns(image.message.header)
        if now_ns < self._last_stamp_ns:
            self._notice("stamp_went_back", "an image is older than the one before: bag restarted?")
        self._last_stamp_ns = now_ns
        if self.settings.lazy and not self._outputs.results.is_watched():
            self.counters.skipped += 1
        else:
            self._worker.put(image)
            # Lets the worker have the GIL now, and not once rclpy has set up its next wait
            # (`wait` in benchmarks/node_overhead.py).
            time.sleep(1e-4)

    def _on_camera_info(self, message: CameraInfo) -> None:
        if self._cameras is not None:
            self._cameras.set_info(message, message.header.frame_id)
            self._on_calibration_changed()

    def _on_tf_static(self, message: TFMessage) -> None:
        self._learn_transforms(message, is_fixed=True)

    def _on_tf(self, message: TFMessage) -> None:
        self._learn_transforms(message, is_fixed=False)

    def _learn_transforms(self, message: TFMessage, is_fixed: bool) -> None:
        for found in transforms(message, self._on_bad_transform):
            stamp = None if is_fixed else found.stamp_ns
            try:
                self._transforms.add(found.parent, found.child, found.parent_from_child, stamp)
            except CalibrationError as error:
                self._on_bad_transform(str(error))
        self._on_calibration_changed()

    def _on_bad_transform(self, reason: str) -> None:
        self._notice("bad_transform", f"TF: {reason}")

    def _on_calibration_changed(self) -> None:
        if self._worker is not None:
            self._worker.calibration_changed()

    # Telling

    def publish_diagnostics(self) -> None:
        """Publish the state, the counters and the times on `/diagnostics`."""
        if not self.context.ok():
            return
        now, values = time.monotonic(), self.counters.values()
        before_time, before = self._reported
        self._reported = now, values
        health = diagnostics.Health(
            state=self.state,
            counters=values,
            before=before,
            interval_s=now - before_time,
            stages_ms=self.stages.medians(),
            topic=self._image_topic,
            publishers=self._image_publishers(),
            trouble=self._complaints.last if self._detector else self._why_unconfigured,
            detector=self._detector.description if self._detector else "",
            trained=self._detector.trained if self._detector else True,
            trained_on=self._detector.card.trained_on if self._detector else "",
            camera_notices=tuple(self._worker.camera_notices.values()) if self._worker else (),
        )
        message = DiagnosticArray(status=[diagnostics.status(self.get_name(), health)])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _image_publishers(self) -> int:
        for subscription in self._sensors:
            # Jazzy and later know who is really connected; the graph may be ahead of that.
            if subscription.msg_type is Image and hasattr(subscription, "get_publisher_count"):
                return int(subscription.get_publisher_count())
        return self.count_publishers(self._image_topic)

    def _notice(self, kind: str, text: str) -> None:
        self.counters.noticed[kind] += 1
        self._complaints.add(kind, text, f"noticed/{kind}")

    @property
    def _image_topic(self) -> str:
        return self.resolve_topic_name("image")

    # Parameters

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        values = {p.name: p.value for p in changed if hasattr(self.settings, p.name)}
        try:
            self.settings = replace(self.settings, **values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def main(
    args: Sequence[str] | None = None, make_node: Callable[[], DetectorNode] = DetectorNode
) -> int:
    """Run the node until SIGINT or SIGTERM, then let the frame in the model finish.

    A model that is being loaded is loaded to the end, but then not activated. A second signal
    ends the process at once.

    Args:
        args: command line, program first; the process's own if None.
        make_node: makes the node; for tests and benchmarks.

    Returns:
        Exit status: 0, or 1 if a parameter was refused.
    """
    keep_freed_memory()
    # Not rclpy's own handlers: those invalidate the context at once, and what the frame in the
    # model results in could no longer be published.
    stop = _stop_signals()
    rclpy.init(
        args=list(args) if args is not None else None,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    try:
        node = make_node()
    except ConfigError as error:
        print(f"kd3d detector: {error}", file=sys.stderr)
        rclpy.shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            _spin_once(executor)
    except ExternalShutdownException:
        pass
    finally:
        node.finish()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _stop_signals() -> Event:
    """What the first SIGINT or SIGTERM sets; from then on both do what they do by default."""
    stop = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def on_signal(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        stop.set()
        with suppress(OSError):  # not print, which the signal may have interrupted
            os.write(2, b"stopping, when what is under way is done; a second signal ends at once\n")

    for number in numbers:
        signal.signal(number, on_signal)
    return stop


def _spin_once(executor: SingleThreadedExecutor) -> None:
    # With a limit, because Python's signal handlers run only between two waits.
    with suppress(InvalidHandle):  # Humble: a message came for a subscription just destroyed
        executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    sys.exit(main())
