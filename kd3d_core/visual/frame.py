"""One frame as one picture: the image with boxes, and under it the scene from above."""

import numpy as np

from kd3d_core.data.messages import ObjectBoxes
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.colors import TRUTH_COLOR, class_color
from kd3d_core.visual.image import draw_boxes, mark_untrained, write


def draw_frame(
    image: np.ndarray,
    camera: PinholeCamera,
    points: np.ndarray,
    found: ObjectBoxes,
    truth: ObjectBoxes | None = None,
    trained: bool = True,
    title: str = "",
) -> np.ndarray:
    """Annotated `(H, W, 3)` RGB picture of a frame.

    Args:
        image: `(h, w, 3)` uint8 RGB; not changed.
        camera: of the image.
        points: `(N, 3+)` in the detector frame.
        found: the detector's boxes, each in the colour of its class.
        truth: drawn in white where there is one.
        trained: if False, the corner says UNTRAINED.
        title: written into the scene from above.
    """
    picture = np.ascontiguousarray(image).copy()
    above = BevView(width=picture.shape[1])
    bev = draw_cloud(above, points)
    if truth is not None:
        white = [TRUTH_COLOR] * len(truth.boxes)
        draw_boxes(picture, truth.boxes, camera, white)
        draw_footprints(bev, above, truth.boxes, white)
    # Weakest first, so that the strongest is on top.
    order = np.argsort(found.scores, kind="stable")
    boxes = found.boxes[order]
    names = [found.names[index] for index in order]
    colors = [class_color(name) for name in names]
    texts = [f"{name} {score:.2f}" for name, score in zip(names, found.scores[order], strict=True)]
    draw_boxes(picture, boxes, camera, colors, texts)
    draw_footprints(bev, above, boxes, colors, 2)
    if not trained:
        mark_untrained(picture)
    if title:
        write(bev, title, (8, bev.shape[0] - 10), (230, 230, 230), 0.45)
    return np.vstack([picture, bev])
