"""One frame in pictures: the image with boxes, and the scene from above."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.tracking import Tracks
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.colors import OTHER_COLOR, TRUTH_COLOR, Color, class_color
from kd3d_core.visual.image import draw_boxes, line_width, text_size, write, write_remarks
from kd3d_core.visual.trails import draw_trails_above, draw_trails_in_image

_WIDE = 2.0
"""Width by height of an image from which the view from above stands below it."""
_BESIDE_SHARE, _BELOW_SHARE = 0.75, 0.6
_TITLE_COLOR: Color = (230, 230, 230)


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
        notes: how the camera is known, written below that.
        tracks: objects that are followed, whose trails are drawn.
    """

    image: np.ndarray
    camera: PinholeCamera
    points: np.ndarray
    found: ObjectBoxes
    truth: ObjectBoxes | None = None
    caveat: str = ""
    notes: tuple[str, ...] = ()
    tracks: Tracks | None = None


def draw_frame(scene: Scene, title: str = "") -> np.ndarray:
    """Annotated `(H, W, 3)` RGB picture: the image, and the scene from above beside or below it.

    It is below wide images. The title is in its corner.
    """
    picture = draw_image(scene)
    height, width = picture.shape[:2]
    if width >= _WIDE * height:
        view = BevView(width, round(_BELOW_SHARE * width))
        return np.vstack([picture, draw_above(view, scene, title)])
    view = BevView(round(_BESIDE_SHARE * height), height)
    return np.hstack([picture, draw_above(view, scene, title)])


def draw_image(scene: Scene) -> np.ndarray:
    """A copy of the image with boxes, their classes, distances and scores."""
    camera, truth = scene.camera, scene.truth
    picture = np.ascontiguousarray(scene.image).copy()
    if truth is not None:
        colors = [TRUTH_COLOR] * len(truth.boxes)
        draw_boxes(picture, truth.boxes, camera, colors, filled=False)
    if scene.tracks is not None:
        draw_trails_in_image(picture, scene.tracks, camera)
    found = scene.found.select(_farthest_first(scene.found))
    ids = found.ids or ("",) * len(found.names)
    texts = [
        f"{' '.join(filter(None, (name, number)))} {distance:.0f} m {score:.2f}"
        for name, number, distance, score in zip(
            found.names, ids, _distances(found), found.scores, strict=True
        )
    ]
    draw_boxes(picture, found.boxes, camera, [class_color(name) for name in found.names], texts)
    write_remarks(picture, scene.caveat, scene.notes)
    return picture


def draw_above(view: BevView, scene: Scene, title: str = "") -> np.ndarray:
    """The scene from above, RGB, of the size of `view`, with legend, and a title in its corner."""
    truth = scene.truth
    picture = draw_cloud(view, scene.points, scene.camera)
    if truth is not None:
        colors = [TRUTH_COLOR] * len(truth.boxes)
        draw_footprints(picture, view, truth.boxes, colors, filled=False)
    if scene.tracks is not None:
        draw_trails_above(picture, scene.tracks, view)
    found = scene.found.select(_farthest_first(scene.found))
    colors = [class_color(name) for name in found.names]
    texts = [f"{distance:.0f} m" for distance in _distances(found)]
    draw_footprints(picture, view, found.boxes, colors, texts)
    _draw_legend(picture, legend(found.names, truth is not None))
    outside = int((~view.shows(found.boxes[:, :2])).sum())
    lines = [title] if title else []
    lines += [f"{outside} outside of this view"] if outside else []
    row = picture.shape[0] - line_width(picture, 10)
    for line in lines:
        write(picture, line, (line_width(picture, 8), row), _TITLE_COLOR)
        row -= round(1.4 * text_size(picture, line)[1])
    return picture


def legend(names: Sequence[str], has_truth: bool) -> tuple[tuple[str, Color], ...]:
    """Colours of the classes in pictures, and white for labels where there are any."""
    known = [name for name in sorted(set(names)) if class_color(name) != OTHER_COLOR]
    entries = [(name, class_color(name)) for name in known]
    if len(known) < len(set(names)):
        entries.append(("other classes", OTHER_COLOR))
    return (*entries, *([("ground truth", TRUTH_COLOR)] if has_truth else []))


def _draw_legend(picture: np.ndarray, entries: Sequence[tuple[str, Color]]) -> None:
    """A line for each class, in the upper left corner."""
    side, left = line_width(picture, 11), line_width(picture, 8)
    for number, (name, color) in enumerate(entries):
        top = line_width(picture, 8) + number * line_width(picture, 20)
        cv2.rectangle(picture, (left, top), (left + side, top + side), color, cv2.FILLED)
        write(picture, name, (left + side + line_width(picture, 7), top + side), _TITLE_COLOR)


def _distances(found: ObjectBoxes) -> np.ndarray:
    """Metres over ground to the centre of each box `(N,)`."""
    return np.hypot(found.boxes[:, 0], found.boxes[:, 1])


def _farthest_first(found: ObjectBoxes) -> np.ndarray:
    """Order in which boxes are drawn, so that the nearest is on top and keeps its text."""
    return np.argsort(-_distances(found), kind="stable")
