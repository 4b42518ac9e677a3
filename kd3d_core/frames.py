"""Images with their cameras, and what was found in them."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from kd3d_core.geometry.camera import PinholeCamera, rectification_grid
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    ObjectBoxes,
    PointCloud,
    Transform,
)
from kd3d_core.models.card import Caveat
from kd3d_core.runtime.detections import Detections
from kd3d_core.tracking import Tracker, Tracks
from kd3d_core.visual.frame import Scene, draw_frame, draw_image


@dataclass(frozen=True, eq=False)
class Frame:
    """An image, and all that is known of how it was taken.

    Attributes:
        name: of its files, unique within its source.
        stamp_ns: when it was taken, nanoseconds.
        image: `(H, W, 3)` uint8 RGB, as the detector takes it.
        camera: of the image.
        extrinsics: where the camera is in the frame of the results; None if the source says that
            itself, as a bag with `/tf_static` does.
        truth: annotated objects in the frame of the results, if there are any.
        camera_frame: name of the camera's optical frame; empty if it isn't known.
        recorded: the image as the message it was recorded in, where there is one.
        world_from_detector: 4x4, where the frame of the results is in one that stands still; None
            if it isn't known.
    """

    name: str
    stamp_ns: int
    image: np.ndarray
    camera: PinholeCamera
    extrinsics: Transform | None = None
    truth: ObjectBoxes | None = None
    camera_frame: str = ""
    recorded: Image | CompressedImage | None = None
    world_from_detector: np.ndarray | None = None

    @property
    def image_message(self) -> Image | CompressedImage:
        """The image as it was recorded, or else as `rgb8`, with the frame's stamp and frame id."""
        message = self.recorded or Image.from_rgb(self.image, self.stamp_ns, self.camera_frame)
        return replace(message, stamp_ns=self.stamp_ns, frame_id=self.camera_frame)

    @property
    def camera_info(self) -> CameraInfo:
        """The camera as a message that goes with the image."""
        return CameraInfo.of_camera(self.camera, self.stamp_ns, self.camera_frame)

    @property
    def rectified_image(self) -> np.ndarray:
        """The image as `camera.projection` sees it, and as boxes are drawn on it."""
        if self.camera.distortion is None:
            return self.image
        columns, rows = _rectification_maps(self.camera)
        return cv2.remap(np.ascontiguousarray(self.image), columns, rows, cv2.INTER_LINEAR)


@lru_cache(maxsize=1)
def _rectification_maps(camera: PinholeCamera) -> tuple[np.ndarray, np.ndarray]:
    grid = (rectification_grid(camera) + 1) / 2
    return grid[..., 0] * (camera.width - 1), grid[..., 1] * (camera.height - 1)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """What was found in a frame.

    Attributes:
        frame: the frame.
        detections: the detector's answer.
        class_names: of its labels.
        frame_id: of points and boxes.
        caveat: what to say beside the answer; None if nothing speaks against it.
        tracks: the objects that the detections belong to; None if they aren't followed.
    """

    frame: Frame
    detections: Detections
    class_names: tuple[str, ...]
    frame_id: str
    caveat: Caveat | None = None
    tracks: Tracks | None = None

    def tracked(self, tracker: Tracker) -> "FrameResult":
        """The same with the tracks that a tracker, which has had the frames before, makes of it."""
        found = self.detections
        frame = self.frame
        tracks = tracker.step(
            found.boxes, found.scores, self.names, frame.stamp_ns, frame.world_from_detector
        )
        return replace(self, tracks=tracks)

    @property
    def names(self) -> tuple[str, ...]:
        """Class of each box."""
        return tuple(self.class_names[label] for label in self.detections.labels.tolist())

    @property
    def cloud(self) -> PointCloud:
        """The points as a message."""
        return PointCloud(self.frame.stamp_ns, self.frame_id, self.detections.points)

    @cached_property
    def found(self) -> ObjectBoxes:
        """The boxes as a message, those that are followed with id and velocity."""
        count, tracks = len(self.detections.boxes), self.tracks
        return ObjectBoxes(
            self.frame.stamp_ns,
            self.frame_id,
            self.detections.boxes,
            self.names,
            self.detections.scores.astype(np.float64),
            ids=() if tracks is None else tracks.ids_of_detections(count),
            velocities=None if tracks is None else tracks.velocities_of_detections(count),
        )

    @cached_property
    def scene(self) -> Scene:
        """What pictures of it show."""
        return Scene(
            self.frame.rectified_image,
            replace(self.frame.camera, distortion=None),
            self.detections.points,
            self.found,
            self.frame.truth,
            self.caveat.short if self.caveat else "",
            self.tracks,
        )

    @cached_property
    def annotated(self) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB: the rectified image with boxes."""
        return draw_image(self.scene)

    @cached_property
    def picture(self) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB: the image with boxes, and under it the scene from above."""
        return draw_frame(self.scene, self.frame.name)
