"""Which camera took an image: the latest CameraInfo together with the extrinsics.

The node and `kd3d-detect` both ask here, so that they see the same world.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.camera_info import (
    CameraInfoLike,
    ImageSizeError,
    camera_from_info,
    camera_info_content,
    camera_info_doubts,
)
from kd3d_core.geometry.transforms import TransformBuffer
from kd3d_core.geometry.virtual_frame import level_lidar_from_camera, virtual_lidar_from_camera
from kd3d_core.runtime.rejection import NotYetError, RejectedError


class CameraSource:
    """Makes the PinholeCamera of an image, again only when something about it has changed.

    Written by the thread that receives and read by the one that works: every attribute is
    replaced as a whole.

    Attributes:
        doubts: what had to be assumed about the latest camera, see `camera_info_doubts`.
    """

    def __init__(
        self,
        frames: TransformBuffer,
        *,
        detector_frame: str = "",
        camera_height: float = 1.65,
        camera_pitch: float = 0.0,
        gravity_frame: str = "",
        image_is_rectified: bool = True,
        image_topic: str = "",
    ) -> None:
        """
        Args:
            frames: transforms; looked at only if `detector_frame` or `gravity_frame` is named.
            detector_frame: frame of the results. Empty: a virtual one, level under the camera.
            camera_height: metres from the ground to the camera, for the virtual frame.
            camera_pitch: by how much the camera looks down, radians, for the virtual frame.
            gravity_frame: a frame whose z points up, which says instead how the camera is tilted.
            image_is_rectified: `rectified` of `camera_from_info`.
            image_topic: name of the images' topic, which may say whether they are rectified.
        """
        self._frames = frames
        self._detector_frame = detector_frame
        self._image_is_rectified = image_is_rectified
        self._image_topic = image_topic
        self.doubts: tuple[str, ...] = ()
        self._camera_height = camera_height
        self._gravity_frame = gravity_frame
        self._virtual = (
            None
            if detector_frame or gravity_frame
            else (virtual_lidar_from_camera(camera_height, camera_pitch))
        )
        self._info: tuple[CameraInfoLike, str] | None = None
        self._made_of: Any = None
        self._made: PinholeCamera | CalibrationError | None = None

    @property
    def is_virtual(self) -> bool:
        """Whether the detector frame is one made up for this camera."""
        return not self._detector_frame

    @property
    def is_fixed(self) -> bool:
        """Whether the detector frame is made up once, and never moves against the camera."""
        return self._virtual is not None

    def set_info(self, info: CameraInfoLike, frame_id: str) -> None:
        """Remember the latest CameraInfo, and the frame that its header names."""
        self._info = info, frame_id

    def frame_of(self, image_frame: str) -> str:
        """The optical frame of an image; the CameraInfo's where the image names none."""
        return image_frame or (self._info[1] if self._info is not None else "")

    def camera(
        self, image_frame: str, width: int, height: int, stamp_ns: int | None = None
    ) -> PinholeCamera:
        """The camera that took an image.

        Args:
            image_frame: that the image's header names; may be empty.
            width: of the image in pixels.
            height: of the image in pixels.
            stamp_ns: when it was taken; needed where the camera moves in the detector frame.

        Raises:
            NotYetError: kind `no_camera_info`, `no_transform`, or `size_mismatch`: the CameraInfo
                of another resolution may be on its way.
            RejectedError: kind `empty_frame_id`, `bad_camera_info` or `bad_pose`.
        """
        if self._info is None:
            raise NotYetError(
                "no_camera_info",
                "no CameraInfo has arrived: publish it, or remap `camera_info` to its topic",
            )
        info, _ = self._info
        pose = self._lidar_from_camera(self.frame_of(image_frame), stamp_ns)
        size, rectified = (width, height), self._image_is_rectified
        made_of = camera_info_content(info), size
        if made_of == self._made_of and isinstance(self._made, PinholeCamera):
            if not np.array_equal(pose, self._made.lidar_from_camera):
                self._made = _moved(self._made, pose)
        elif made_of != self._made_of:
            try:
                self._made = camera_from_info(info, pose, rectified, size)
                self.doubts = camera_info_doubts(info, size, rectified, self._image_topic)
            except CalibrationError as error:
                self._made = error
            self._made_of = made_of
        if isinstance(self._made, ImageSizeError):
            raise NotYetError("size_mismatch", str(self._made))
        if isinstance(self._made, CalibrationError):
            raise RejectedError("bad_camera_info", f"CameraInfo: {self._made}")
        assert self._made is not None
        return self._made

    def _lidar_from_camera(self, camera_frame: str, stamp_ns: int | None) -> np.ndarray:
        if self._virtual is not None:
            return self._virtual
        frame, setting = self._detector_frame, "detector_frame"
        if not frame:
            frame, setting = self._gravity_frame, "gravity_frame"
        if not camera_frame:
            raise RejectedError(
                "empty_frame_id",
                f"neither image nor CameraInfo has a frame_id, so the way to {frame!r} can't be "
                f"found: set it in the camera driver, or leave {setting} empty",
            )
        try:
            frame_from_camera = self._frames.lookup(frame, camera_frame, stamp_ns)
        except CalibrationError as error:
            raise NotYetError(
                "no_transform",
                f"{error}: publish it, on /tf_static if it never moves, or leave {setting} empty",
            ) from None
        if self._detector_frame:
            return frame_from_camera
        try:
            return level_lidar_from_camera(frame_from_camera[2, :3], self._camera_height)
        except CalibrationError as error:
            raise RejectedError("bad_pose", str(error)) from None


def _moved(camera: PinholeCamera, pose: np.ndarray) -> PinholeCamera:
    """The camera elsewhere: its lens, which is costly to check, stays."""
    try:
        return replace(camera, lidar_from_camera=pose)
    except CalibrationError as error:
        raise RejectedError("bad_pose", str(error)) from None
