"""Boxes as markers, which RViz and Foxglove show without any plugin."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.geometry.points import transform
from kd3d_core.messages.cdr import CdrWriter, header_block
from kd3d_core.messages.types import ObjectBoxes

# Of visualization_msgs/Marker.
_ARROW, _LINE_LIST, _TEXT_VIEW_FACING = 0, 5, 9
_ADD, _DELETEALL = 0, 3

_LIFETIME_S = 5
"""Until boxes vanish where no newer ones come: longer than a slow model takes for a frame."""

_LINE_WIDTH_M = 0.06
_TEXT_HEIGHT_M = 0.6
# Into a box's eight corners, its middle and the tip of its heading.
_LINES = np.append(box_geometry.EDGES.ravel(), [8, 9])
_PATH_COLOR = (1.0, 1.0, 1.0, 1.0)
_NO_POINTS = np.empty((0, 3))


def encode_markers(objects: ObjectBoxes, color_of: Callable[[str], tuple[int, int, int]]) -> bytes:
    """A `visualization_msgs/MarkerArray` in CDR: wireframes with headings, class, id and score.

    First a marker that deletes all earlier ones, then lines for each class, then a text above
    each box. The lines of a class, in namespace `boxes`, are one LINE_LIST: for each box twelve
    edges and a line from its middle out of its front. Where velocities are known, another one, in
    namespace `velocities`, has a line from each middle to where it would be in a second.

    Args:
        color_of: RGB, 0 to 255, of a class.
    """
    boxes = np.asarray(objects.boxes, np.float64)
    lines, above, paths = _lines(boxes), _above(boxes), _paths(boxes, objects.velocities)
    if objects.frame_from_boxes is not None:
        lines, above, paths = (
            transform(places, objects.frame_from_boxes) for places in (lines, above, paths)
        )
    names = np.array(objects.names, object)
    header = header_block(objects.stamp_ns, objects.frame_id)
    present = dict.fromkeys(objects.names)
    colors = {name: [*(part / 255 for part in color_of(name)), 1.0] for name in present}

    writer = CdrWriter()
    writer.numbers("I", 1 + len(colors) + len(boxes) + bool(len(paths)))
    _write(writer, header, action=_DELETEALL)
    for number, (name, color) in enumerate(colors.items()):
        _write(
            writer,
            header,
            namespace="boxes",
            number=number,
            kind=_LINE_LIST,
            scale=(_LINE_WIDTH_M, 0.0, 0.0),
            color=color,
            points=lines[names == name],
        )
    if len(paths):
        _write(
            writer,
            header,
            namespace="velocities",
            kind=_LINE_LIST,
            scale=(_LINE_WIDTH_M, 0.0, 0.0),
            color=_PATH_COLOR,
            points=paths,
        )
    rows = zip(above.tolist(), objects.names, objects.captions, strict=True)
    for number, (place, name, caption) in enumerate(rows):
        _write(
            writer,
            header,
            namespace="labels",
            number=number,
            kind=_TEXT_VIEW_FACING,
            position=place,
            scale=(0.0, 0.0, _TEXT_HEIGHT_M),
            color=colors[name],
            text=caption,
        )
    return writer.message()


def _lines(boxes: np.ndarray) -> np.ndarray:
    """Ends of the lines of each box, `(N, 26, 3)`."""
    corners = box_geometry.corners(boxes)
    center = corners.mean(1, keepdims=True)
    front = corners[:, [0, 1, 4, 5]].mean(1, keepdims=True)
    vertices = np.concatenate([corners, center, center + 1.5 * (front - center)], 1)
    lines: np.ndarray = vertices[:, _LINES]
    return lines


def _paths(boxes: np.ndarray, velocities: np.ndarray | None) -> np.ndarray:
    """Ends of a line along each known velocity, `(K, 2, 3)`."""
    if velocities is None:
        return np.empty((0, 2, 3))
    known = np.isfinite(velocities).all(1)
    middle = box_geometry.corners(boxes[known]).mean(1)
    return np.stack([middle, middle + velocities[known]], 1)


def _above(boxes: np.ndarray) -> np.ndarray:
    """Where the text of each box stands, `(N, 3)`."""
    above: np.ndarray = boxes[:, :3].copy()
    above[:, 2] += boxes[:, 5] + _TEXT_HEIGHT_M
    return above


def _write(
    writer: CdrWriter,
    header: bytes,
    *,
    namespace: str = "",
    number: int = 0,
    kind: int = _ARROW,
    action: int = _ADD,
    position: Sequence[float] = (0.0, 0.0, 0.0),
    scale: tuple[float, float, float] = (0.0, 0.0, 0.0),
    color: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    points: np.ndarray = _NO_POINTS,
    text: str = "",
) -> None:
    """One Marker, not turned, that vanishes after a while."""
    writer.block(4, header)
    writer.text(namespace)
    writer.numbers("3i", number, kind, action)
    pose = (*position, 0.0, 0.0, 0.0, 1.0)
    lifetime, frame_locked = (_LIFETIME_S, 0), False
    writer.numbers("10d4fiI?", *pose, *scale, *color, *lifetime, frame_locked)
    writer.numbers("I", points.size // 3)
    writer.array(points)
    writer.block(4, _no_texture())
    writer.text(text)
    writer.block(4, _no_mesh())


@cache
def _no_texture() -> bytes:
    writer = CdrWriter()
    writer.numbers("I", 0)  # colors
    writer.text("")  # texture_resource
    writer.block(4, header_block(0, ""))  # texture.header
    writer.text("")  # texture.format
    writer.numbers("I", 0)  # texture.data
    writer.numbers("I", 0)  # uv_coordinates
    return writer.content()


@cache
def _no_mesh() -> bytes:
    writer = CdrWriter()
    writer.text("")  # mesh_resource
    writer.text("")  # mesh_file.filename
    writer.numbers("I", 0)  # mesh_file.data
    writer.numbers("?", False)  # mesh_use_embedded_materials
    return writer.content()
