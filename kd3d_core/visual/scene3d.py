"""A scene for the page's 3D view: points with the image's colours, and boxes, as a line of JSON."""

import base64
import json

import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.colors import TRUTH_COLOR, Color, class_color
from kd3d_core.visual.frame import Scene

_MOST_POINTS = 4000
_FARTHEST_M = 100.0
_UNSEEN: Color = (80, 80, 88)
_DARKEST = 64  # of 255: a road in the shade is to be seen on a dark ground


def scene_json(scene: Scene) -> str:
    """What `templates/scene3d.js` draws.

    `points` are int16 centimetres x, y, z and `colors` bytes R, G, B, both in base64; of each box
    eight corners in centimetres, a colour, a text, and whether it is filled.
    """
    points = scene.points[np.abs(scene.points[:, :3]).max(1) < _FARTHEST_M]
    if len(points) > _MOST_POINTS:
        chosen = np.random.default_rng(0).choice(len(points), _MOST_POINTS, replace=False)
        points = points[np.sort(chosen)]
    found, truth = scene.found, scene.truth
    boxes = [] if truth is None else _boxes(truth, [TRUTH_COLOR] * len(truth.boxes), filled=False)
    boxes += _boxes(found, [class_color(name) for name in found.names], filled=True)
    values = {
        "points": _base64(np.rint(points[:, :3] * 100).astype("<i2")),
        "colors": _base64(_colors(scene, points)),
        "boxes": boxes,
    }
    return json.dumps(values, separators=(",", ":"))


def _boxes(boxes: ObjectBoxes, colors: list[Color], filled: bool) -> list[dict[str, object]]:
    corners = box_geometry.corners(np.asarray(boxes.boxes, np.float64).reshape(-1, 7))
    distances = np.hypot(boxes.boxes[:, 0], boxes.boxes[:, 1])
    return [
        {
            "corners": np.rint(corner * 100).astype(int).reshape(-1).tolist(),
            "color": color,
            "text": f"{name} {distance:.0f} m" if filled else "",
            "filled": filled,
        }
        for corner, color, name, distance in zip(
            corners, colors, boxes.names, distances, strict=True
        )
    ]


def _colors(scene: Scene, points: np.ndarray) -> np.ndarray:
    """`(N, 3)` uint8: what the image shows where each point falls into it."""
    colors = np.full((len(points), 3), _UNSEEN, np.uint8)
    seen = scene.camera.sees(points)
    pixels, _ = scene.camera.project(points[seen])
    columns, rows = np.rint(pixels).astype(int).T
    colors[seen] = scene.image[rows, columns]
    return (_DARKEST + colors * (1 - _DARKEST / 255)).astype(np.uint8)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
