"""KITTI labels of a moment, with occlusion and truncation measured in the rendering.

What gets which line:

- The 2D box is the projection of the 3D box, clipped to the image.
- Truncation is the share of the unclipped 2D box that lies outside the image.
- Occlusion is 0, 1 or 2 by the share of the object's own pixels that other things hide: up to
  10 %, up to half, more. Of an object that is hidden by more than 90 %, or farther away than
  70 m, only a `DontCare` region remains, and nothing if it can't be seen at all or is less
  than 8 pixels high.
"""

from dataclasses import dataclass

import numpy as np

from kd3d_core.data.labels import Label
from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.picture import pixel_rays
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.geometry import boxes
from kd3d_core.geometry.camera import PinholeCamera

LABELLED_TO_M = 70.0
_SMALLEST_REGION_PX = 8.0
_HIDDEN_LIMITS = (0.10, 0.50, 0.90)
_SAMPLES = 48  # rays across the longer side of an object's rectangle
_UNBOUNDED = 1_000_000


@dataclass(frozen=True)
class Visibility:
    """How much of an object is in the image, and how much of that is hidden.

    Attributes:
        pixels: area that the object would cover in the image if it were alone.
        hidden: share of that area where something else is in front.
    """

    pixels: float
    hidden: float


def make_labels(moment: Moment, caster: RayCaster, camera: PinholeCamera) -> list[Label]:
    """Labels of all objects that can be seen, nearest first, then `DontCare` regions.

    Args:
        moment: the world.
        caster: of its mesh.
        camera: rectified, in the LiDAR's frame.
    """
    size = camera.height, camera.width
    rectangles = boxes.image_boxes(moment.boxes, camera.image_from_lidar, size)
    location, dimensions, rotation_y = boxes.to_kitti(moment.boxes, camera.lidar_from_camera)
    alpha = boxes.wrap_angle(rotation_y - np.arctan2(location[:, 0], location[:, 2]))
    truncated = truncation(moment.boxes, camera)
    labels: list[tuple[float, Label]] = []
    regions = []
    in_image = (rectangles[:, 2:] - rectangles[:, :2] > 1).all(1)  # False for NaN: behind
    for index in np.flatnonzero(in_image).tolist():
        seen = visibility(moment, caster, camera, index, rectangles[index])
        if seen.pixels == 0 or seen.hidden == 1:
            continue
        distance = float(np.linalg.norm(location[index]))
        level = int(np.searchsorted(_HIDDEN_LIMITS, seen.hidden))
        bbox = tuple(rectangles[index].tolist())
        if level == len(_HIDDEN_LIMITS) or distance > LABELLED_TO_M:
            if bbox[3] - bbox[1] >= _SMALLEST_REGION_PX:
                regions.append(_dont_care(bbox))
            continue
        label = Label(
            type=moment.types[index],
            truncated=round(float(truncated[index]), 2) + 0.0,
            occluded=level,
            alpha=float(alpha[index]),
            bbox=bbox,
            dimensions=tuple(dimensions[index].tolist()),
            location=tuple(location[index].tolist()),
            rotation_y=float(boxes.wrap_angle(rotation_y[index])),
        )
        labels.append((distance, label))
    return [label for _, label in sorted(labels, key=lambda pair: pair[0])] + regions


def truncation(objects: np.ndarray, camera: PinholeCamera) -> np.ndarray:
    """Share `(K,)` of the projected boxes that lies outside the image; NaN if behind it."""
    shift = np.eye(3)
    shift[:2, 2] = _UNBOUNDED / 2  # so that clipping to a huge image keeps all of a box
    whole = boxes.image_boxes(objects, shift @ camera.image_from_lidar, (_UNBOUNDED, _UNBOUNDED))
    inside = boxes.image_boxes(objects, camera.image_from_lidar, (camera.height, camera.width))
    return np.clip(1 - _area(inside) / np.maximum(_area(whole), 1e-9), 0, 1)


def visibility(
    moment: Moment, caster: RayCaster, camera: PinholeCamera, index: int, rectangle: np.ndarray
) -> Visibility:
    """Cast rays over an object's rectangle, once at the object alone and once at everything."""
    left, top, right, bottom = rectangle
    step = max(right - left, bottom - top) / _SAMPLES
    columns, rows = np.meshgrid(
        np.arange(left + step / 2, right, step), np.arange(top + step / 2, bottom, step)
    )
    pixels = np.stack([columns.ravel(), rows.ravel()], -1)
    origin, directions = pixel_rays(camera, pixels)
    alone = RayCaster(moment.mesh.triangles[moment.owner == index])
    covered = alone.cast(origin, directions).face >= 0
    count = int(covered.sum())
    if not count:
        return Visibility(0.0, 1.0)
    first = caster.cast(origin, directions[covered]).face
    visible = (first >= 0) & (moment.owner[first] == index)
    return Visibility(count * step**2, 1 - float(visible.mean()))


def _area(rectangles: np.ndarray) -> np.ndarray:
    return (rectangles[:, 2] - rectangles[:, 0]) * (rectangles[:, 3] - rectangles[:, 1])


def _dont_care(bbox: tuple[float, float, float, float]) -> Label:
    return Label("DontCare", -1.0, -1, -10.0, bbox, (-1.0,) * 3, (-1000.0,) * 3, -10.0)
