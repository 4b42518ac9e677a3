"""Boxes as markers, which RViz and Foxglove show without any plugin."""

from functools import cache

import numpy as np
from geometry_msgs.msg import Point, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.runtime.detections import Detections
from kd3d_core.visual.colors import class_color

_LINE_WIDTH_M = 0.06
_TEXT_HEIGHT_M = 0.6
# Into a box's eight corners, its middle and the tip of its heading.
_LINES = [*box_geometry.EDGES.ravel().tolist(), 8, 9]


class MarkersWriter:
    """Writes boxes as wireframes with their headings, and above each its class and score.

    Markers are kept and filled anew, for the same reason as in `convert.DetectionsWriter`. A
    message is good until the next one is written.
    """

    def __init__(self) -> None:
        self._delete = Marker(action=Marker.DELETEALL)
        self._wires: dict[int, Marker] = {}
        self._lines: list[tuple[list[Point], list[Point]]] = []  # of a box: vertices, ends of lines
        self._texts: list[Marker] = []

    def message(
        self, detections: Detections, class_names: tuple[str, ...], header: Header
    ) -> MarkerArray:
        """First a marker that deletes all earlier ones, then lines for each class, then texts.

        The lines of a class, in namespace `boxes`, are one LINE_LIST: for each box twelve edges
        and a line from its middle out of its front.
        """
        markers = [self._delete]
        if len(detections.boxes):
            markers += self._wireframes(detections, class_names)
            markers += self._labels(detections, class_names)
        for marker in markers:
            marker.header = header
        return MarkerArray(markers=markers)

    def _wireframes(self, detections: Detections, class_names: tuple[str, ...]) -> list[Marker]:
        boxes = np.asarray(detections.boxes, np.float64)
        corners = box_geometry.corners(boxes)
        center = corners.mean(1, keepdims=True)
        front = corners[:, [0, 1, 4, 5]].mean(1, keepdims=True)
        vertices = np.concatenate([corners, center, center + 1.5 * (front - center)], 1)
        while len(self._lines) < len(boxes):
            # An edge shares its ends with others: one Point each, listed several times.
            ends = [Point() for _ in range(10)]
            self._lines.append((ends, [ends[i] for i in _LINES]))
        points: dict[int, list[Point]] = {}
        rows = zip(vertices.tolist(), detections.labels.tolist(), self._lines, strict=False)
        for box_vertices, label, (ends, lines) in rows:
            for end, vertex in zip(ends, box_vertices, strict=True):
                end.x, end.y, end.z = vertex
            points.setdefault(label, []).extend(lines)
        for label, lines in points.items():
            if label not in self._wires:
                scale = Vector3(x=_LINE_WIDTH_M)
                self._wires[label] = _marker("boxes", label, Marker.LINE_LIST, scale)
            self._wires[label].points = lines
            self._wires[label].color = _color(class_names[label])
        return [self._wires[label] for label in sorted(points)]

    def _labels(self, detections: Detections, class_names: tuple[str, ...]) -> list[Marker]:
        boxes = np.asarray(detections.boxes, np.float64)
        above = boxes[:, :3].copy()
        above[:, 2] += boxes[:, 5] + _TEXT_HEIGHT_M
        while len(self._texts) < len(boxes):
            scale = Vector3(z=_TEXT_HEIGHT_M)
            text = _marker("labels", len(self._texts), Marker.TEXT_VIEW_FACING, scale)
            self._texts.append(text)
        written = self._texts[: len(boxes)]
        columns = (above, detections.labels, detections.scores)
        rows = zip(written, *(column.tolist() for column in columns), strict=True)
        for text, place, label, score in rows:
            text.text = f"{class_names[label]} {score:.2f}"
            text.color = _color(class_names[label])
            position = text.pose.position
            position.x, position.y, position.z = place
        return written


def _marker(namespace: str, number: int, kind: int, scale: Vector3) -> Marker:
    marker = Marker(ns=namespace, id=number, type=kind, action=Marker.ADD, scale=scale)
    marker.pose.orientation.w = 1.0
    return marker


@cache
def _color(class_name: str) -> ColorRGBA:
    red, green, blue = class_color(class_name)
    return ColorRGBA(r=red / 255, g=green / 255, b=blue / 255, a=1.0)
