"""The camera's images and CameraInfo: received only while somebody wants what comes of them."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from kd3d_core.messages.qos import QosProfile
from kd3d_core.messages.types import CameraInfo, CompressedImage, Image
from kd3d_ros.diagnostics import Complaints, FrameCounters
from kd3d_ros.inputs import Input, ReceivedImage, parsed
from kd3d_ros.mailbox import RateLimit
from kd3d_ros.parameters import DetectorParameters
from kd3d_ros.qos import QosOverrides

# An image that DDS overwrites in its queue is seen by no counter, so there is room for a few;
# taking them is quick, and the mailbox keeps only the newest.
_IMAGE_DEPTH = 5


class Gate:
    """Which images are worked on.

    Attributes:
        is_enabled: false lets none pass.
    """

    def __init__(
        self, settings: Callable[[], DetectorParameters], is_watched: Callable[[], bool]
    ) -> None:
        """
        Args:
            settings: asked each time, as they may change.
            is_watched: whether anybody subscribes to a result.
        """
        self._settings = settings
        self._is_watched = is_watched
        self._rate_limit = RateLimit()
        self.is_enabled = True

    def closed_by(self) -> str:
        """Why no image is wanted now: `disabled` or `unwatched`; empty if they are."""
        if not self.is_enabled:
            return "disabled"
        return "unwatched" if self._settings().lazy and not self._is_watched() else ""

    def refuses(self, now_s: float) -> str:
        """Why an image that comes now isn't worked on, `max_rate` for example; empty if it is."""
        if reason := self.closed_by():
            return reason
        return "" if self._rate_limit.allows(now_s, self._settings().max_rate) else "max_rate"


class Intake:
    """Subscribes to a camera while the gate is open, and passes on the images that it lets pass.

    All of it happens on the executor's thread.
    """

    def __init__(
        self,
        node: Node,
        overrides: QosOverrides,
        gate: Gate,
        counters: FrameCounters,
        complaints: Complaints,
        settings: Callable[[], DetectorParameters],
    ) -> None:
        """
        Args:
            node: that subscribes.
            overrides: of the QoS.
            gate: which images pass.
            counters: `received`, `lost`, `camera_infos` and reasons of `skipped` are counted here.
            complaints: told of CameraInfos that can't be read.
            settings: `image_transport` and `image_reliability` are read when it is opened.
        """
        self._node, self._overrides = node, overrides
        self._gate = gate
        self._counters = counters
        self._complaints = complaints
        self._settings = settings
        self._inputs: dict[str, Input] = {}
        self._put: Callable[[ReceivedImage], object] | None = None
        self._on_info: Callable[[Any], object] | None = None

    @property
    def kind(self) -> type[Image] | type[CompressedImage]:
        """Of the messages that hold images."""
        return CompressedImage if self._settings().image_transport == "compressed" else Image

    @property
    def topic(self) -> str:
        """Compressed images have their topic below that of raw ones, wherever that is remapped."""
        topic = self._node.resolve_topic_name("image")
        return topic if self.kind is Image else f"{topic}/compressed"

    @property
    def images(self) -> Input | None:
        """The subscription to images, if there is one now."""
        return self._inputs.get("image")

    def start(
        self,
        put: Callable[[ReceivedImage], object],
        on_info: Callable[[Any], object],
    ) -> None:
        """Begin to pass on images, and CameraInfos as rclpy has them."""
        self._put, self._on_info = put, on_info
        self.update()

    def stop(self) -> None:
        """Receive nothing any more."""
        self._put = self._on_info = None
        self.update()

    def update(self) -> None:
        """Subscribe or unsubscribe, and follow the publishers' QoS."""
        if self._put is None or self._gate.closed_by():
            for each in self._inputs.values():
                each.close()
            self._inputs = {}
        elif not self._inputs:
            self._inputs = self._subscribe()
        else:
            for each in self._inputs.values():
                each.follow()

    def _subscribe(self) -> dict[str, Input]:
        """To images first: they are first in line when more than one has come."""
        reliability = self._settings().image_reliability
        images = Input(
            self._node,
            self._overrides,
            self.kind.ros_type,
            self.topic,
            self.on_image,
            # Until there is a publisher, what hears every one.
            QosProfile(
                "reliable" if reliability == "reliable" else "best_effort", depth=_IMAGE_DEPTH
            ),
            is_fixed=reliability != "auto",
            on_lost=self._on_lost,
        )
        infos = Input(
            self._node,
            self._overrides,
            CameraInfo.ros_type,
            "camera_info",
            parsed(CameraInfo.ros_type, self._on_camera_info, self._complaints),
            QosProfile("best_effort", depth=1),
        )
        return {"image": images, "camera_info": infos}

    def on_image(self, data: bytes) -> None:
        """Take an image in CDR that arrives now."""
        self.receive(ReceivedImage(data, time.perf_counter(), self.kind))

    def receive(self, image: ReceivedImage) -> None:
        """Count an image, and pass it on unless there is a reason not to."""
        if self._put is None:
            return  # taken by the executor just before it was stopped
        self._counters.received += 1
        if reason := self._gate.refuses(time.monotonic()):
            self._counters.skipped[reason] += 1
            return
        self._put(image)
        # Lets the worker have the GIL now, and not once rclpy has set up its next wait
        # (`wait` in benchmarks/node_overhead.py).
        time.sleep(1e-4)

    def _on_lost(self, count: int) -> None:
        self._counters.lost += count

    def _on_camera_info(self, info: Any) -> None:
        if self._on_info is not None:
            self._counters.camera_infos += 1
            self._on_info(info)
