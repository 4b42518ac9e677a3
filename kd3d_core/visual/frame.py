"""One frame in pictures: the image with boxes, and the scene from above."""

import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.colors import TRUTH_COLOR, class_color
from kd3d_core.visual.image import draw_boxes, line_width, write, write_caveat


def draw_frame(
    image: np.ndarray,
    camera: PinholeCamera,
    points: np.ndarray,
    found: ObjectBoxes,
    truth: ObjectBoxes | None = None,
    caveat: str = "",
    title: str = "",
) -> np.ndarray:
    """Annotated `(H, W, 3)` RGB picture of a frame: the image, and under it the scene from above.

    Args:
        image: `(h, w, 3)` uint8 RGB, rectified; not changed.
        camera: of the image.
        points: `(N, 3+)` in the detector frame.
        found: detections, drawn in the colours of their classes.
        truth: labels, drawn in white.
        caveat: why not to trust the detections, written into the corner.
        title: text in the corner of the scene from above.
    """
    picture = draw_image(image, camera, found, truth, caveat)
    view = BevView(width=picture.shape[1])
    return np.vstack([picture, draw_above(view, points, found, truth, title)])


def draw_image(
    image: np.ndarray,
    camera: PinholeCamera,
    found: ObjectBoxes,
    truth: ObjectBoxes | None = None,
    caveat: str = "",
) -> np.ndarray:
    """A copy of the image with boxes; arguments as in `draw_frame`."""
    picture = np.ascontiguousarray(image).copy()
    if truth is not None:
        draw_boxes(picture, truth.boxes, camera, [TRUTH_COLOR] * len(truth.boxes))
    order = _weakest_first(found)
    names = [found.names[index] for index in order]
    texts = [f"{name} {score:.2f}" for name, score in zip(names, found.scores[order], strict=True)]
    colors = [class_color(name) for name in names]
    draw_boxes(picture, found.boxes[order], camera, colors, texts)
    if caveat:
        write_caveat(picture, caveat)
    return picture


def draw_above(
    view: BevView,
    points: np.ndarray,
    found: ObjectBoxes,
    truth: ObjectBoxes | None = None,
    title: str = "",
) -> np.ndarray:
    """The scene from above, RGB, of the size of `view`; arguments as in `draw_frame`."""
    picture = draw_cloud(view, points)
    if truth is not None:
        draw_footprints(picture, view, truth.boxes, [TRUTH_COLOR] * len(truth.boxes))
    order = _weakest_first(found)
    colors = [class_color(found.names[index]) for index in order]
    draw_footprints(picture, view, found.boxes[order], colors, 2)
    if title:
        place = (line_width(picture, 8), picture.shape[0] - line_width(picture, 10))
        write(picture, title, place, (230, 230, 230))
    return picture


def _weakest_first(found: ObjectBoxes) -> np.ndarray:
    """Order in which boxes are drawn, so that the strongest is on top."""
    return np.argsort(found.scores, kind="stable")
