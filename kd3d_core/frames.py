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
from kd3d_core.visual.distinct import one_per_object
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
        notes: how the camera is known, where nobody has calibrated it; stands in pictures.
        doubt: what speaks against that, in a sentence; empty if nothing does.
    """

    name: str
    stamp_ns: int
    image: np.ndarray
    camera: PinholeCamera
    extrinsics: Transform | None = None
    truth: ObjectBoxes | None = None
    camera_frame: str = ""
    recorded: Image | CompressedImage | None = None
    notes: tuple[str, ...] = ()
    doubt: str = ""

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
        all_boxes: whether pictures show boxes of several classes on one object.
    """

    frame: Frame
    detections: Detections
    class_names: tuple[str, ...]
    frame_id: str
    caveat: Caveat | None = None
    all_boxes: bool = False

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
        """The boxes as a message."""
        return ObjectBoxes(
            self.frame.stamp_ns,
            self.frame_id,
            self.detections.boxes,
            self.names,
            self.detections.scores.astype(np.float64),
        )

    @cached_property
    def scene(self) -> Scene:
        """What pictures of it show."""
        return Scene(
            self.frame.rectified_image,
            replace(self.frame.camera, distortion=None),
            self.detections.points,
            self.found if self.all_boxes else one_per_object(self.found),
            self.frame.truth,
            self.caveat.short if self.caveat else "",
            self.frame.notes,
        )

    @cached_property
    def annotated(self) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB: the rectified image with boxes."""
        return draw_image(self.scene)

    @cached_property
    def picture(self) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB: the image with boxes, and the scene from above."""
        return draw_frame(self.scene, self.frame.name)
