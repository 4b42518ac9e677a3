"""The detector node: subscribes to a camera, publishes a pseudo-LiDAR cloud and 3D boxes.

Subscribes
    image (sensor_msgs/Image), camera_info (sensor_msgs/CameraInfo): newest frame only, with the
    QoS that their publishers offer, so that a latched CameraInfo is seen as well.
    /tf_static (tf2_msgs/TFMessage): extrinsics, if the parameter detector_frame names a frame;
    otherwise to warn when another node publishes the virtual frame too.
    /tf (tf2_msgs/TFMessage): extrinsics of a camera that moves, if detector_frame names a frame.
Publishes, all with the image's stamp
    ~/points (sensor_msgs/PointCloud2), ~/detections (vision_msgs/Detection3DArray),
    ~/markers (visualization_msgs/MarkerArray).
    ~/debug/processing_time_ms (std_msgs/Float64): from the image's arrival to the last result.
    ~/debug/pipeline_latency_ms (std_msgs/Float64): from the image's stamp to the last result; it
    means something only if the camera stamps with this node's clock.
    /diagnostics (diagnostic_msgs/DiagnosticArray), once per second.
    /tf_static: camera -> virtual_frame, if detector_frame is empty.
Parameters, explained in config/detector.yaml
    score_threshold, lazy: may be changed at any time.
    model, device, precision, detector_frame, virtual_frame, camera_height, image_is_rectified,
    image_reliability: may be changed while the node is unconfigured; `configure` reads them.
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
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Event, Thread
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from kd3d_core.errors import CalibrationError, ConfigError, Kd3dError, listed, shown
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.memory import keep_freed_memory
from kd3d_core.messages.decode import transforms
from kd3d_core.messages.qos import LATCHED, QosProfile
from kd3d_core.models.card import caveat
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.detections import Detector
from kd3d_core.runtime.rejection import RejectedError
from kd3d_ros import diagnostics, parameters
from kd3d_ros.inputs import Input, MessageT, parse
from kd3d_ros.parameters import NODE_NAME, Precision
from kd3d_ros.raw import use_profile
from kd3d_ros.results import NodeOutputs
from kd3d_ros.worker import FrameWorker, ReceivedImage

# An image that DDS overwrites in its queue is seen by no counter, so there is room for a few;
# taking them is quick, and the mailbox keeps only the newest.
_IMAGE_DEPTH = 5
_TF_DEPTH = 100
_TF_HISTORY_NS = 10 * 10**9  # as tf2 keeps it
# `ros2 launch` passes on the SIGINT that the terminal sends to both: two for one Ctrl-C.
_ONE_SIGNAL_S = 1.0

Result = TypeVar("Result")

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
        self._complaints = diagnostics.Complaints(lambda text: self.get_logger().warning(text))
        self._why_unconfigured = ""
        self._reported = (time.monotonic(), self.counters.values())

        self._transforms = TransformBuffer(_TF_HISTORY_NS)
        self._cameras: CameraSource | None = None
        self._detector: Detector | None = None
        self._worker: FrameWorker | None = None
        self._inputs: dict[str, Input] = {}
        self._parents_heard: set[str] = set()
        self._loader: Thread | None = None

        self._outputs = NodeOutputs(self, "")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 5)

        # Steady, so that a simulated clock that stands still stops neither.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._on_second, clock=steady)
        # What waits for the model, in a group that holds up nothing else.
        waiting = ReentrantCallbackGroup()
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state
        self._service_change_state.callback_group = waiting
        waiting.add_entity(self._service_change_state)
        if self.settings.autostart:
            start: Any = self._start  # rclpy awaits it
            self._starter = self.create_timer(0.001, start, waiting, clock=steady)

    # Lifecycle

    async def _start(self) -> None:
        """Configure, then activate, unless `main` stops the executor before."""
        self._starter.cancel()
        if self.state == "unconfigured":
            loaded = await self._in_thread(self.trigger_configure)
            if loaded == TransitionCallbackReturn.SUCCESS and self.state == "inactive":
                self.trigger_activate()

    async def _on_change_state(self, request: Any, response: Any) -> Any:
        """The lifecycle service: as rclpy's, but others are answered while the model loads."""
        if self.state != "unconfigured":
            return self._change_state(request, response)
        return await self._in_thread(lambda: self._change_state(request, response))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        """Do `work` in a thread of its own; the executor goes on."""
        done: Any = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self._loader = Thread(target=run, name="loader", daemon=True)
        self._loader.start()
        result: Result = await done
        return result

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. FAILURE, with the reason in the log and the diagnostics, if it can't."""
        settings = self.settings
        self._outputs.frame_id = settings.results_frame(self.get_namespace(), self.get_name())
        self._parents_heard = set()
        try:
            self._cameras = CameraSource(
                self._transforms,
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
            score_threshold=lambda: self.settings.score_threshold,
            now_ns=lambda: self.get_clock().now().nanoseconds,
        )
        self._worker.start()
        self._listen()
        self.get_logger().info(
            f"active: images from {self._image_topic}, results in {self._outputs.frame_id!r}"
        )
        return TransitionCallbackReturn.SUCCESS

    def _listen(self) -> None:
        reliability = self.settings.image_reliability
        latched = replace(LATCHED, depth=_TF_DEPTH)
        inputs: dict[str, tuple[Any, Callable[[bytes], None], QosProfile, bool]] = {
            "image": (  # first in line when more than one has come
                Image,
                self._on_image,
                # Until there is a publisher, what hears every one.
                QosProfile(
                    "reliable" if reliability == "reliable" else "best_effort", depth=_IMAGE_DEPTH
                ),
                reliability != "auto",
            ),
            "camera_info": (
                CameraInfo,
                self._on_camera_info,
                QosProfile("best_effort", depth=1),
                False,
            ),
            "/tf_static": (TFMessage, self._on_tf_static, latched, True),
        }
        if self.settings.detector_frame:
            inputs["/tf"] = TFMessage, self._on_tf, QosProfile(depth=_TF_DEPTH), True
        for topic, (kind, callback, qos, is_fixed) in inputs.items():
            on_lost = self._on_lost if topic == "image" else lambda count: None
            self._inputs[topic] = Input(
                self, kind, topic, callback, qos, is_fixed=is_fixed, on_lost=on_lost
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
        if self._loader is not None:
            self._loader.join()
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
        self.receive(ReceivedImage(data, time.perf_counter()))

    def receive(self, image: ReceivedImage) -> None:
        """Count an image, and give it to the worker if anybody wants results."""
        if self._worker is None:
            return  # taken by the executor just before it was deactivated
        self.counters.received += 1
        if self.settings.lazy and not self._outputs.results.is_watched():
            self.counters.skipped += 1
        else:
            self._worker.put(image)
            # Lets the worker have the GIL now, and not once rclpy has set up its next wait
            # (`wait` in benchmarks/node_overhead.py).
            time.sleep(1e-4)

    def _on_lost(self, count: int) -> None:
        self.counters.lost += count

    def _on_camera_info(self, data: bytes) -> None:
        message = self._parsed(data, CameraInfo)
        if message is not None and self._cameras is not None:
            self.counters.camera_infos += 1
            self._cameras.set_info(message, message.header.frame_id)
            self._on_calibration_changed()

    def _on_tf_static(self, data: bytes) -> None:
        message = self._parsed(data, TFMessage)
        if message is None:
            return
        if self.settings.detector_frame:
            self._learn_transforms(message, is_fixed=True)
        else:
            self._parents_heard |= {
                stamped.header.frame_id
                for stamped in message.transforms
                if stamped.child_frame_id.lstrip("/") == self._outputs.frame_id
            }

    def _on_tf(self, data: bytes) -> None:
        message = self._parsed(data, TFMessage)
        if message is not None:
            self._learn_transforms(message, is_fixed=False)

    def _parsed(self, data: bytes, message_type: type[MessageT]) -> MessageT | None:
        try:
            return parse(data, message_type)
        except RejectedError as error:
            self._notice(error.kind, str(error))
            return None

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
        images = self._inputs.get("image")
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
            conflict=self._conflict(),
            trouble=self._complaints.last if self._detector else self._why_unconfigured,
            detector=self._detector.description if self._detector else "",
            trained=self._detector.trained if self._detector else True,
            trained_on=self._detector.card.trained_on if self._detector else "",
            camera_notices=tuple(self._worker.camera_notices.values()) if self._worker else (),
        )
        status = diagnostics.status(self.get_fully_qualified_name(), health)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _conflict(self) -> str:
        """Who else publishes the virtual frame; empty if nobody does."""
        own = self._worker.parents if self._worker else set()
        others = self._parents_heard - own
        if not own or not others:
            return ""
        text = (
            f"{self._outputs.frame_id!r} is a child of {listed(sorted(own))} and, by another node, "
            f"of {listed(sorted(others))}, and TF keeps one of them: set virtual_frame"
        )
        self._notice("other_parent", text)
        return text

    def _notice(self, kind: str, text: str) -> None:
        self.counters.noticed[kind] += 1
        self._complaints.add(kind, text, f"noticed/{kind}")

    @property
    def _image_topic(self) -> str:
        return self.resolve_topic_name("image")

    # Parameters

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
    """What the first SIGINT or SIGTERM sets; a later one does what it does by default."""
    stop = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    ends_at_once_from = 0.0

    def on_signal(number: int, frame: object) -> None:
        nonlocal ends_at_once_from
        if stop.is_set():
            if time.monotonic() > ends_at_once_from:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        ends_at_once_from = time.monotonic() + _ONE_SIGNAL_S
        stop.set()
        with suppress(OSError):  # not print, which the signal may have interrupted
            os.write(2, b"stopping, when what is under way is done; one more signal ends at once\n")

    for number in numbers:
        signal.signal(number, on_signal)
    return stop


def _spin_once(executor: SingleThreadedExecutor) -> None:
    # With a limit, because Python's signal handlers run only between two waits.
    with suppress(InvalidHandle):  # Humble: a message came for a subscription just destroyed
        executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    sys.exit(main())
