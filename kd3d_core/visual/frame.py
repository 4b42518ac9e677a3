"""One frame in pictures: the image with boxes, and the scene from above."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.tracking import Tracks
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.colors import TRUTH_COLOR, class_color
from kd3d_core.visual.image import draw_boxes, line_width, write, write_caveat
from kd3d_core.visual.trails import draw_trails_above, draw_trails_in_image


@dataclass(frozen=True, eq=False)
class Scene:
    """What a picture of a frame shows.

    Attributes:
        image: `(h, w, 3)` uint8 RGB, rectified; not changed.
        camera: of the image.
        points: `(N, 3+)` in the detector frame.
        found: detections, drawn in the colours of their classes.
        truth: labels, drawn in white.
        caveat: why not to trust the detections, written into the corner of the image.
        tracks: objects that are followed, whose trails are drawn.
    """

    image: np.ndarray
    camera: PinholeCamera
    points: np.ndarray
    found: ObjectBoxes
    truth: ObjectBoxes | None = None
    caveat: str = ""
    tracks: Tracks | None = None


def draw_frame(scene: Scene, title: str = "") -> np.ndarray:
    """Annotated `(H, W, 3)` RGB picture: the image, and under it the scene from above.

    The title is in the corner of the latter.
    """
    picture = draw_image(scene)
    return np.vstack([picture, draw_above(BevView(width=picture.shape[1]), scene, title)])


def draw_image(scene: Scene) -> np.ndarray:
    """A copy of the image with boxes."""
    camera, found, truth = scene.camera, scene.found, scene.truth
    picture = np.ascontiguousarray(scene.image).copy()
    if truth is not None:
        draw_boxes(picture, truth.boxes, camera, [TRUTH_COLOR] * len(truth.boxes))
    if scene.tracks is not None:
        draw_trails_in_image(picture, scene.tracks, camera)
    order = _weakest_first(found)
    texts = [found.captions[index] for index in order]
    colors = [class_color(found.names[index]) for index in order]
    draw_boxes(picture, found.boxes[order], camera, colors, texts)
    if scene.caveat:
        write_caveat(picture, scene.caveat)
    return picture


def draw_above(view: BevView, scene: Scene, title: str = "") -> np.ndarray:
    """The scene from above, RGB, of the size of `view`, with a title in its corner."""
    found, truth = scene.found, scene.truth
    picture = draw_cloud(view, scene.points)
    if truth is not None:
        draw_footprints(picture, view, truth.boxes, [TRUTH_COLOR] * len(truth.boxes))
    if scene.tracks is not None:
        draw_trails_above(picture, scene.tracks, view)
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
