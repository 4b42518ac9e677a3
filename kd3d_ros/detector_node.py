"""The detector node: subscribes to a camera, publishes a pseudo-LiDAR cloud and 3D boxes.

Subscribes
    image (sensor_msgs/Image) or image/compressed (sensor_msgs/CompressedImage), camera_info
    (sensor_msgs/CameraInfo): newest frame only, with the QoS that their publishers offer, so that a
    latched CameraInfo is seen as well.
    /tf_static (tf2_msgs/TFMessage): extrinsics, if the parameter detector_frame names a frame;
    otherwise to warn when another node publishes the virtual frame too.
    /tf (tf2_msgs/TFMessage): extrinsics of a camera that moves, if detector_frame names a frame.
Publishes, all with the image's stamp
    ~/points (sensor_msgs/PointCloud2), ~/detections (vision_msgs/Detection3DArray),
    ~/markers (visualization_msgs/MarkerArray).
    ~/depth (sensor_msgs/Image, 32FC1, metres, NaN where nothing is known): of the rectified image,
    in the camera's frame. ~/debug_image (sensor_msgs/Image) and ~/debug_image/compressed (JPEG in a
    sensor_msgs/CompressedImage): that image with boxes.
    ~/debug/processing_time_ms (std_msgs/Float64): from the image's arrival to the last result.
    ~/debug/pipeline_latency_ms (std_msgs/Float64): from the image's stamp to the last result; it
    means something only if the camera stamps with this node's clock.
    /diagnostics (diagnostic_msgs/DiagnosticArray), once per second.
    /tf_static: camera -> virtual_frame, if detector_frame is empty.
Services
    ~/enable (std_srvs/SetBool): false skips all images, and keeps the model. Where std_srvs is
    installed.
Parameters, explained in config/detector.yaml
    score_threshold, score_threshold_CLASS, max_rate, lazy: may be changed at any time.
    model, device, precision, detector_frame, virtual_frame, camera_height, image_is_rectified,
    image_transport, image_reliability: may be changed while the node is unconfigured; `configure`
    reads them.
    autostart: at start only.
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
from contextlib import suppress
from dataclasses import replace
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.duration import Duration
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo as CameraInfoMessage

try:
    from std_srvs.srv import SetBool
except ImportError:  # an environment that was made before the service was
    SetBool = None

from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, Kd3dError, shown
from kd3d_core.memory import keep_freed_memory
from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import CameraInfo, CompressedImage, Image
from kd3d_core.models.card import caveat
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.detections import Detector
from kd3d_ros import diagnostics, parameters
from kd3d_ros.frames import FrameListener
from kd3d_ros.inputs import Input, parsed
from kd3d_ros.lifecycle import LoadingNode
from kd3d_ros.mailbox import RateLimit
from kd3d_ros.parameters import NODE_NAME
from kd3d_ros.raw import use_profile
from kd3d_ros.results import NodeOutputs
from kd3d_ros.signals import stop_on_signals
from kd3d_ros.worker import FrameWorker, ReceivedImage

# An image that DDS overwrites in its queue is seen by no counter, so there is room for a few;
# taking them is quick, and the mailbox keeps only the newest.
_IMAGE_DEPTH = 5

LoadDetector = Callable[[str, str, Precision], Detector]
"""Makes a detector of the parameters `model`, `device` and `precision`."""


def load_camera_detector(model: str, device: str, precision: Precision) -> Detector:
    """Load the real one, and run it once: first frames take long."""
    from kd3d_core.runtime.pipeline import CameraDetector

    detector = CameraDetector.from_config(model, device, precision)
    detector.warm_up()
    return detector


class DetectorNode(LoadingNode):
    """Lifecycle node around a detector: loads it in `configure`, receives images while active."""

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
        self._complaints = diagnostics.Complaints(
            self.counters, lambda text: self.get_logger().warning(text)
        )
        self._why_unconfigured = ""
        self._reported = (time.monotonic(), self.counters.values())

        self._frames = FrameListener(self._complaints, self._on_calibration_changed)
        self._cameras: CameraSource | None = None
        self._detector: Detector | None = None
        self._worker: FrameWorker | None = None
        self._inputs: dict[str, Input] = {}
        self._rate_limit = RateLimit()
        self._is_enabled = True
        if SetBool is not None:
            self.create_service(SetBool, "~/enable", self._on_enable)

        self._outputs = NodeOutputs(self, "")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)
        self.create_timer(1.0, self._on_second, clock=self.steady_clock)
        if self.settings.autostart:
            self.start_by_itself()

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. FAILURE, with the reason in the log and the diagnostics, if it can't."""
        settings = self.settings
        self._outputs.frame_id = settings.results_frame(self.get_namespace(), self.get_name())
        try:
            self._cameras = CameraSource(
                self._frames.transforms,
                detector_frame=settings.detector_frame,
                camera_height=settings.camera_height,
                image_is_rectified=settings.image_is_rectified,
                image_topic=self._image_topic,
            )
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
            settings=lambda: self.settings,
            now_ns=lambda: self.get_clock().now().nanoseconds,
        )
        self._worker.start()
        self._listen()
        self.get_logger().info(
            f"active: images from {self._image_topic}, results in {self._outputs.frame_id!r}"
        )
        return TransitionCallbackReturn.SUCCESS

    def _listen(self) -> None:
        """Subscribe to images first: they are first in line when more than one has come."""
        reliability = self.settings.image_reliability
        self._inputs["image"] = Input(
            self,
            self._image_kind.ros_type,
            self._image_topic,
            self._on_image,
            # Until there is a publisher, what hears every one.
            QosProfile(
                "reliable" if reliability == "reliable" else "best_effort", depth=_IMAGE_DEPTH
            ),
            is_fixed=reliability != "auto",
            on_lost=self._on_lost,
        )
        self._inputs["camera_info"] = Input(
            self,
            CameraInfo.ros_type,
            "camera_info",
            parsed(CameraInfo.ros_type, self._on_camera_info, self._complaints),
            QosProfile("best_effort", depth=1),
        )
        self._inputs |= self._frames.listen(
            self, self._outputs.frame_id, is_own=not self.settings.detector_frame
        )

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
        self.finish_loading()
        if self.state != "finalized":
            self.trigger_shutdown()
        if self.context.ok():
            self._outputs.results.flush(0.5)
            self._diagnostics.wait_for_all_acked(Duration(seconds=0.2))

    def _stop_working(self) -> None:
        for listening in self._inputs.values():
            listening.close()
        self._inputs = {}
        if self._worker is None:
            return
        self._worker.stop()
        self._worker = None
        self.publish_diagnostics()
        self.get_logger().info(f"stopped: {self.counters}")

    # Receiving, on the executor's thread

    def _on_image(self, data: bytes) -> None:
        self.receive(ReceivedImage(data, time.perf_counter(), self._image_kind))

    def receive(self, image: ReceivedImage) -> None:
        """Count an image, and give it to the worker unless there is a reason not to."""
        if self._worker is None:
            return  # taken by the executor just before it was deactivated
        self.counters.received += 1
        if reason := self._why_skipped():
            self.counters.skipped[reason] += 1
            return
        self._worker.put(image)
        # Lets the worker have the GIL now, and not once rclpy has set up its next wait
        # (`wait` in benchmarks/node_overhead.py).
        time.sleep(1e-4)

    def _why_skipped(self) -> str:
        """Why an image that comes now isn't looked at; empty if it is."""
        if not self._is_enabled:
            return "disabled"
        if self.settings.lazy and not self._outputs.results.is_watched():
            return "unwatched"
        if not self._rate_limit.allows(time.monotonic(), self.settings.max_rate):
            return "max_rate"
        return ""

    def _on_lost(self, count: int) -> None:
        self.counters.lost += count

    def _on_camera_info(self, message: CameraInfoMessage) -> None:
        if self._cameras is not None:
            self.counters.camera_infos += 1
            self._cameras.set_info(message, message.header.frame_id)
            self._on_calibration_changed()

    def _on_calibration_changed(self) -> None:
        if self._worker is not None:
            self._worker.calibration_changed()

    # Telling

    def _on_second(self) -> None:
        for listening in self._inputs.values():
            listening.follow()  # at the latest; where rclpy tells of new publishers, at once
        self.publish_diagnostics()

    def publish_diagnostics(self) -> None:
        """Publish the state, the counters and the times on `/diagnostics`."""
        if not self.context.ok():
            return
        now, values = time.monotonic(), self.counters.values()
        before_time, before = self._reported
        self._reported = now, values
        images, worker = self._inputs.get("image"), self._worker
        own_parents = worker.parents if worker else set()
        health = diagnostics.Health(
            state=self.state,
            counters=values,
            before=before,
            interval_s=now - before_time,
            stages_ms=self.stages.medians(),
            topic=self._image_topic,
            publishers=images.publishers if images else 0,
            connected=images.connected if images else 0,
            reliability=images.reliability if images else "",
            camera_frame=self._cameras.frame_of("") if self._cameras else "",
            conflict=self._frames.conflict(self._outputs.frame_id, own_parents),
            trouble=self._complaints.last if self._detector else self._why_unconfigured,
            detector=self._detector,
            camera_notices=tuple(worker.camera_notices.values()) if worker else (),
        )
        message = DiagnosticArray(
            status=[diagnostics.status(self.get_fully_qualified_name(), health)]
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    @property
    def _image_kind(self) -> type[Image] | type[CompressedImage]:
        return CompressedImage if self.settings.image_transport == "compressed" else Image

    @property
    def _image_topic(self) -> str:
        """Compressed images have their topic below that of raw ones, wherever that is remapped."""
        topic = self.resolve_topic_name("image")
        return topic if self._image_kind is Image else f"{topic}/compressed"

    # Settings while it runs

    def _on_enable(self, request: Any, response: Any) -> Any:
        self._is_enabled = request.data
        response.success = True
        response.message = "enabled" if request.data else "disabled: all images are skipped"
        self.get_logger().info(response.message)
        return response

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        values = {p.name: p.value for p in changed if hasattr(self.settings, p.name)}
        if why := self.settings.fixed_by(values, self.state):
            return SetParametersResult(successful=False, reason=why)
        try:
            self.settings = replace(self.settings, **values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


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
    # Not rclpy's own handlers: those invalidate the context at once, and what the frame in the
    # model results in could no longer be published.
    with stop_on_signals() as stop:
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


def _spin_once(executor: SingleThreadedExecutor) -> None:
    # With a limit, because Python's signal handlers run only between two waits.
    with suppress(InvalidHandle):  # Humble: a message came for a subscription just destroyed
        executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    sys.exit(main())
