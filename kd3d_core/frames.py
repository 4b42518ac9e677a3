"""Images with their cameras, and what was found in them."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from kd3d_core.geometry.boxes import image_boxes
from kd3d_core.geometry.camera import PinholeCamera, rectification_grid
from kd3d_core.geometry.lens import Distortion
from kd3d_core.geometry.points import transform
from kd3d_core.messages.types import (
    CameraInfo,
    CompressedImage,
    Image,
    ObjectBoxes,
    PointCloud,
    Transform,
)
from kd3d_core.messages.vision import ImageObjects
from kd3d_core.models.box_errors import BoxErrors, box_covariances
from kd3d_core.models.card import Caveat
from kd3d_core.runtime.detections import Detections
from kd3d_core.tracking import Tracker, Tracks
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
        world_from_detector: 4x4, where the frame of the results is in one that stands still; None
            if it isn't known.
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
    world_from_detector: np.ndarray | None = None
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
        camera = self.camera
        columns, rows = _rectification_maps(
            camera.distortion, camera.projection.tobytes(), camera.width, camera.height
        )
        return cv2.remap(np.ascontiguousarray(self.image), columns, rows, cv2.INTER_LINEAR)


@lru_cache(maxsize=1)
def _rectification_maps(
    lens: Distortion, projection: bytes, width: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Not by camera: one that moves in its frame is another one for each image."""
    matrix = np.frombuffer(projection).reshape(3, 4)
    camera = PinholeCamera(matrix, width, height, np.eye(4), lens)
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
        frame_from_detector: 4x4 from the detector's frame into `frame_id`; None if that is it.
        is_colored: whether points have the colours of the image.
        box_errors: how far boxes are off, by their distance; empty if that isn't known.
        tracks: the objects that the detections belong to; None if they aren't followed.
        all_boxes: whether pictures show boxes of several classes on one object.
    """

    frame: Frame
    detections: Detections
    class_names: tuple[str, ...]
    frame_id: str
    caveat: Caveat | None = None
    frame_from_detector: np.ndarray | None = None
    is_colored: bool = False
    box_errors: tuple[BoxErrors, ...] = ()
    tracks: Tracks | None = None
    all_boxes: bool = False

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
        points = self.detections.points
        rgb = self._colors(points) if self.is_colored else None
        if self.frame_from_detector is not None:
            places = transform(points[:, :3].astype(np.float64), self.frame_from_detector)
            points = np.column_stack([places.astype(np.float32), points[:, 3]])
        return PointCloud(self.frame.stamp_ns, self.frame_id, points, rgb=rgb)

    @cached_property
    def found(self) -> ObjectBoxes:
        """The boxes as a message, those that are followed with id and velocity."""
        boxes, camera, tracks = self.detections.boxes, self.frame.camera, self.tracks
        return ObjectBoxes(
            self.frame.stamp_ns,
            self.frame_id,
            boxes,
            self.names,
            self.detections.scores.astype(np.float64),
            self.frame_from_detector,
            box_covariances(self.box_errors, boxes, camera.lidar_from_camera[:2, 3]),
            ids=() if tracks is None else tracks.ids_of_detections(len(boxes)),
            velocities=None if tracks is None else tracks.velocities_of_detections(len(boxes)),
        )

    @property
    def in_image(self) -> ImageObjects:
        """The boxes in the rectified image as a message, those that are in it."""
        camera = self.frame.camera
        size = camera.height, camera.width
        rectangles = image_boxes(self.detections.boxes, camera.image_from_lidar, size)
        keep = np.flatnonzero((rectangles[:, 2:] > rectangles[:, :2]).all(1))  # not NaN
        return ImageObjects(
            self.frame.stamp_ns,
            self.frame.camera_frame,
            rectangles[keep],
            tuple(self.names[index] for index in keep),
            self.detections.scores[keep],
            tuple(self.found.ids[index] for index in keep) if self.found.ids else (),
        )

    def _colors(self, points: np.ndarray) -> np.ndarray:
        """`(N, 3)` uint8: of the rectified image, at each of the points that were made of it."""
        image, camera = self.frame.rectified_image, self.frame.camera
        pixels, _ = camera.project(points.astype(np.float64))
        last = camera.width - 1, camera.height - 1
        column, row = np.clip(np.rint(pixels), 0, last).astype(int).T
        return image[row, column]

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
            self.tracks,
        )

    @cached_property
    def annotated(self) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB: the rectified image with boxes."""
        return draw_image(self.scene)

    @cached_property
    def picture(self) -> np.ndarray:
        """`(h, w, 3)` uint8 RGB: the image with boxes, and the scene from above."""
        return draw_frame(self.scene, self.frame.name)
