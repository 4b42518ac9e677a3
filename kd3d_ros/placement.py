"""Where a camera is when it takes an image, and where the results of that image go."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import numpy as np

# Geometry and tracking load these when they need them: half a second, in which the first image
# would make others drop.
import scipy.optimize
import scipy.spatial.transform  # noqa: F401

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.messages.types import CompressedImage, Image, Transform, Transforms
from kd3d_core.runtime.cameras import CameraSource
from kd3d_core.runtime.rejection import NotYetError, RejectedError
from kd3d_ros.diagnostics import Complaints
from kd3d_ros.parameters import DetectorParameters, ResultFrames
from kd3d_ros.results import NodeOutputs

Found = TypeVar("Found")

_PATIENCE_S = 1.0
"""How long the first frame waits for its CameraInfo and extrinsics: bags and drivers often send
the image first, and it would be a pity to lose it."""


class Placement:
    """Looks up cameras and transforms, and waits for those that are on their way.

    It waits on the worker's thread, never on the one that receives them.

    Attributes:
        parents: camera frames of which the virtual frame was published as a child.
    """

    def __init__(
        self,
        cameras: CameraSource,
        transforms: TransformBuffer,
        frames: ResultFrames,
        outputs: NodeOutputs,
        complaints: Complaints,
        settings: Callable[[], DetectorParameters],
    ) -> None:
        """
        Args:
            cameras: which camera took an image.
            transforms: what is known of other frames.
            frames: of the detector and the results.
            outputs: where the virtual frame is published.
            complaints: told what cameras leave open.
            settings: asked for `tf_timeout`, which may change.
        """
        self._cameras = cameras
        self._transforms = transforms
        self._frames = frames
        self._outputs = outputs
        self._complaints = complaints
        self._settings = settings
        self._changed = Event()
        self._is_open = False
        self._patience_ends: float | None = None
        self._virtual_frame_of: str | None = None
        self._doubts: tuple[str, ...] = ()
        self.parents: set[str] = set()

    def open(self) -> None:
        """Wait for what is on its way; the next image is a first one."""
        self._patience_ends = None
        self._is_open = True

    def close(self) -> None:
        """Wait no more."""
        self._is_open = False
        self._changed.set()

    def calibration_changed(self) -> None:
        """Say that a CameraInfo or a transform has come: a frame may be waiting for it."""
        self._changed.set()

    def camera_frame(self, image: Image | CompressedImage) -> str:
        """Name of the frame that an image was taken in; empty if nothing says it."""
        return self._cameras.frame_of(image.frame_id)

    def camera(self, image: Image | CompressedImage, size: tuple[int, int]) -> PinholeCamera:
        """The camera that took an image of this width and height; tells TF of the virtual frame.

        Raises:
            RejectedError: as `CameraSource.camera`.
        """
        if self._patience_ends is None:
            self._patience_ends = time.monotonic() + _PATIENCE_S
        camera = self._patiently(
            lambda: self._cameras.camera(image.frame_id, *size, image.stamp_ns),
            self._patience_ends,
        )
        self._tell_doubts()
        self._publish_virtual_frame(image, camera)
        return camera

    def frame_from_detector(
        self, image: Image | CompressedImage, camera: PinholeCamera
    ) -> np.ndarray | None:
        """4x4 from the detector's frame into that of the results; None if they are one.

        Raises:
            RejectedError: kind `no_target_transform` or `empty_frame_id`.
        """
        target = self._frames.results
        if target == self._frames.detector:
            return None
        return self._from_detector(target, "target_frame", image, camera)

    def world_from_detector(
        self, image: Image | CompressedImage, camera: PinholeCamera
    ) -> np.ndarray | None:
        """4x4 from the detector's frame into `tracking_frame`; None if that isn't known."""
        target = self._settings().tracking_frame
        if not target:
            return None
        try:
            return self._from_detector(target, "tracking_frame", image, camera)
        except RejectedError as error:
            self._complaints.notice("no_tracking_transform", str(error))
            return None

    def _from_detector(
        self, target: str, setting: str, image: Image | CompressedImage, camera: PinholeCamera
    ) -> np.ndarray:
        source = self.camera_frame(image)
        if not source:
            raise RejectedError(
                "empty_frame_id",
                f"neither image nor CameraInfo has a frame_id, so the way to {target!r} can't be "
                f"found: set it in the camera driver, or leave {setting} empty",
            )

        def look() -> np.ndarray:
            try:
                return self._transforms.lookup(target, source, image.stamp_ns)
            except CalibrationError as error:
                raise NotYetError(
                    "no_target_transform", f"{error}: publish it, or leave {setting} empty"
                ) from None

        from_detector: np.ndarray = self._patiently(look) @ camera.camera_from_lidar
        return from_detector

    def _patiently(self, look: Callable[[], Found], until: float = 0.0) -> Found:
        """What `look` finds before `tf_timeout` is over, and before the time `until`."""
        until = max(until, time.monotonic() + self._settings().tf_timeout)
        while True:
            self._changed.clear()
            try:
                return look()
            except NotYetError:
                left = until - time.monotonic()
                if left <= 0 or not self._is_open:
                    raise
                self._changed.wait(left)

    def _tell_doubts(self) -> None:
        """Say what the camera leaves open, whenever that changes."""
        if self._cameras.doubts != self._doubts:
            self._doubts = self._cameras.doubts
            for doubt in self._doubts:
                self._complaints.notice("camera_info", doubt, once=doubt)

    def _publish_virtual_frame(self, image: Image | CompressedImage, camera: PinholeCamera) -> None:
        """Tell TF where the virtual frame is: once for each camera, or always if it moves."""
        parent, child = self.camera_frame(image), self._frames.detector
        is_told = parent == self._virtual_frame_of and self._cameras.is_fixed
        if not self._cameras.is_virtual or is_told:
            return
        self._virtual_frame_of = parent
        if not parent:
            self._complaints.notice(
                "empty_frame_id",
                "neither image nor CameraInfo has a frame_id, so TF can't join the camera and "
                f"{child!r}: set it in the camera driver",
            )
            return
        self.parents.add(parent)
        transform = Transform(image.stamp_ns, parent, child, camera.camera_from_lidar)
        outputs = self._outputs
        topic = outputs.static_transforms if self._cameras.is_fixed else outputs.transforms
        topic.publish(Transforms((transform,)))
