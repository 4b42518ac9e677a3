"""One frame as one picture: the image with boxes, and under it the scene from above."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.runtime.detections import Detections
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.colors import TRUTH_COLOR, class_color
from kd3d_core.visual.image import draw_boxes, mark_untrained, write


@dataclass(frozen=True)
class Truth:
    """Labelled boxes of a frame, `(N, 7)`, and the names of their classes."""

    boxes: np.ndarray
    names: Sequence[str]


def draw_frame(
    image: np.ndarray,
    camera: PinholeCamera,
    detections: Detections,
    class_names: Sequence[str],
    truth: Truth | None = None,
    trained: bool = True,
    title: str = "",
) -> np.ndarray:
    """Annotated `(H, W, 3)` RGB picture of a frame.

    Args:
        image: `(h, w, 3)` uint8 RGB; not changed.
        camera: of the image.
        detections: what the detector said.
        class_names: names of the detections' labels.
        truth: drawn in white where there is one.
        trained: if False, the corner says UNTRAINED.
        title: written over the bird's-eye view.
    """
    picture = np.ascontiguousarray(image).copy()
    names = [class_names[label] for label in detections.labels]
    colors = [class_color(name) for name in names]
    texts = [f"{name} {score:.2f}" for name, score in zip(names, detections.scores, strict=True)]
    above = BevView(width=picture.shape[1])
    bev = draw_cloud(above, detections.points)
    if truth is not None:
        white = [TRUTH_COLOR] * len(truth.boxes)
        draw_boxes(picture, truth.boxes, camera, white)
        draw_footprints(bev, above, truth.boxes, white)
    # Weakest first, so that the strongest is on top.
    for index in range(len(names))[::-1]:
        box = detections.boxes[index : index + 1]
        draw_boxes(picture, box, camera, colors[index : index + 1], texts[index : index + 1])
        draw_footprints(bev, above, box, colors[index : index + 1], 2)
    if not trained:
        mark_untrained(picture)
        mark_untrained(bev)
    if title:
        write(bev, title, (8, bev.shape[0] - 10), (230, 230, 230), 0.45)
    return np.vstack([picture, bev])
