"""The node with a detector of a test's own, and a camera, in one process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from fake_detector import FakeDetector
from node_helpers import Camera, Spinner, camera_info, image_message
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from kd3d_ros.detector_node import DetectorNode


@dataclass
class Setup:
    """A detector node, a camera, and what spins both."""

    node: DetectorNode
    camera: Camera
    spinner: Spinner
    stack: ExitStack

    def connect(self) -> None:
        """Wait until all have found each other."""
        self.spinner.until("the topics are connected", self.camera.has_topics)
        # Asked for, because of itself the node tells it once a second.
        self.spinner.until("connected", lambda: self.fresh_status() and self.camera.is_connected())

    def ready(self) -> "Setup":
        """Itself, once all have found each other and the node has a CameraInfo."""
        self.connect()
        self.info()
        return self

    def send(self, *messages: Image | bytes) -> None:
        """Publish images, or bytes for one, each when the one before has been dealt with."""
        for message in messages:
            done = self.done() + 1
            self.camera.images.publish(message)
            self.spinner.until("the image is dealt with", lambda done=done: self.done() >= done)

    def info(self, **values: Any) -> None:
        """Publish a CameraInfo, and wait until the node has it."""
        message = camera_info(**values)
        arrived = Event()
        cameras = self.node._cameras
        assert cameras is not None
        original = cameras.set_info
        cameras.set_info = lambda *info: (original(*info), arrived.set())  # type: ignore[method-assign]
        self.camera.infos.publish(message)
        self.spinner.until("the CameraInfo has arrived", arrived.is_set)
        cameras.set_info = original  # type: ignore[method-assign]

    def done(self) -> int:
        """Images that the node has finished with."""
        count = self.node.counters
        return (
            count.processed
            + count.dropped
            + count.skipped.total()
            + count.rejected.total()
            + count.failed
        )

    def fresh_status(self) -> DiagnosticStatus:
        """Diagnostics published from now on."""
        self.camera.statuses.clear()
        self.node.publish_diagnostics()
        self.spinner.until("diagnostics", lambda: self.camera.statuses)
        return self.camera.statuses[-1]


Start = Callable[..., Setup]


def held_in_model(start: Start) -> tuple[Setup, FakeDetector, Event]:
    """A node whose model has got the image of stamp 1 and keeps it until the event is set."""
    release, in_model = Event(), Event()
    detector = FakeDetector(before=lambda: (in_model.set(), release.wait(30)))
    setup = start(detector).ready()
    setup.camera.images.publish(image_message(stamp=1))
    setup.spinner.until("the first image is in the model", in_model.is_set)
    return setup, detector, release


@contextmanager
def starter() -> Iterator[Start]:
    """Starts nodes with a detector and parameters, and ends them with the block."""
    with ExitStack() as stack:

        def make(
            detector: Any = None,
            load: Any = None,
            listen: bool = True,
            namespace: str = "",
            **parameters: Any,
        ) -> Setup:
            detector = detector or FakeDetector()
            overrides = [Parameter(name, value=value) for name, value in parameters.items()]
            node = DetectorNode(
                load or (lambda *_: detector), namespace=namespace, parameter_overrides=overrides
            )
            camera = Camera(listen=listen)
            spinner = stack.enter_context(Spinner(node, camera))
            stack.callback(node.finish)
            return Setup(node, camera, spinner, stack)

        yield make
