"""Labels, which are in the camera frame, as boxes of the detector frame and back."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.geometry import boxes
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import ObjectBoxes


def label_boxes(labels: Sequence[Label], lidar_from_camera: np.ndarray) -> np.ndarray:
    """`(N, 7)` float32 detector-frame boxes of labels, in their order.

    `DontCare` regions and labels with a `flaw` have no box: leave them out first.
    """
    return boxes.from_kitti(
        np.array([label.location for label in labels]),
        np.array([label.dimensions for label in labels]),
        np.array([label.rotation_y for label in labels]),
        lidar_from_camera,
    )


def label_objects(
    labels: Sequence[Label], lidar_from_camera: np.ndarray, stamp_ns: int, frame_id: str
) -> ObjectBoxes:
    """The boxes of labels (see `label_boxes`) or detections as a message; a label has score 1."""
    return ObjectBoxes(
        stamp_ns,
        frame_id,
        label_boxes(labels, lidar_from_camera),
        tuple(label.type for label in labels),
        np.array([1.0 if label.score is None else label.score for label in labels], np.float64),
    )


def box_labels(
    detected: np.ndarray, scores: Sequence[float], names: Sequence[str], camera: PinholeCamera
) -> list[Label]:
    """Labels of N detector-frame boxes `(N, 7)`, for KITTI's evaluator; inverse of `label_boxes`.

    Their 2D boxes are clipped to the camera's image. Boxes outside of it are left out.
    """
    labels = all_box_labels(detected, scores, names, camera)
    return [label for label in labels if label.has_image_box]


def all_box_labels(
    detected: np.ndarray, scores: Sequence[float], names: Sequence[str], camera: PinholeCamera
) -> list[Label]:
    """As `box_labels`, N of them: boxes outside of the image have no 2D box."""
    location, dimensions, rotation_y = boxes.to_kitti(detected, camera.lidar_from_camera)
    labels = [
        Label(
            type=names[i],
            truncated=-1.0,
            occluded=-1,
            alpha=-10.0,
            bbox=(0.0, 0.0, 0.0, 0.0),
            dimensions=tuple(dimensions[i].tolist()),
            location=tuple(location[i].tolist()),
            rotation_y=float(rotation_y[i]),
            score=float(scores[i]),
        )
        for i in range(len(detected))
    ]
    return _seen(labels, detected, camera)


def with_image_boxes(labels: Sequence[Label], camera: PinholeCamera) -> list[Label]:
    """Labels of a frame, whose objects without a 2D box get that of their 3D box, if they have one.

    The observation angle, which such files don't know either, comes with it. An object that the
    camera doesn't see stays without a 2D box.
    """
    lacking = [
        index for index, label in enumerate(labels) if label.is_usable and not label.has_image_box
    ]
    found = label_boxes([labels[index] for index in lacking], camera.lidar_from_camera)
    seen = _seen([labels[index] for index in lacking], found, camera)
    filled = dict(zip(lacking, seen, strict=True))
    return [filled.get(index, label) for index, label in enumerate(labels)]


def _seen(labels: Sequence[Label], found: np.ndarray, camera: PinholeCamera) -> list[Label]:
    """Labels with image rectangle and observation angle of their boxes `(N, 7)`.

    Those that the camera doesn't see stay as they are.
    """
    size = (camera.height, camera.width)
    rectangles = boxes.image_boxes(found, camera.image_from_lidar, size)
    location = np.array([label.location for label in labels]).reshape(-1, 3)
    heading = np.array([label.rotation_y for label in labels])
    alpha = boxes.wrap_angle(heading - np.arctan2(location[:, 0], location[:, 2]))
    seen = np.all(rectangles[:, 2:] > rectangles[:, :2], 1)  # False for NaN: behind the camera
    return [
        replace(labels[i], alpha=float(alpha[i]), bbox=tuple(rectangles[i].tolist()))
        if seen[i]
        else labels[i]
        for i in range(len(labels))
    ]
