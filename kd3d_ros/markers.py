"""Boxes as markers, which RViz and Foxglove show without any plugin."""

import numpy as np
from geometry_msgs.msg import Point, Pose, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from kd3d_core.geometry import boxes as box_geometry
from kd3d_core.runtime.detections import Detections

# Colour-blind safe (Okabe and Ito), in the order of the classes.
_PALETTE = [
    ColorRGBA(r=0.34, g=0.71, b=0.91, a=1.0),
    ColorRGBA(r=0.90, g=0.62, b=0.00, a=1.0),
    ColorRGBA(r=0.00, g=0.62, b=0.45, a=1.0),
    ColorRGBA(r=0.80, g=0.47, b=0.65, a=1.0),
    ColorRGBA(r=0.94, g=0.89, b=0.26, a=1.0),
    ColorRGBA(r=0.84, g=0.37, b=0.00, a=1.0),
]
_LINE_WIDTH_M = 0.06
_TEXT_HEIGHT_M = 0.6
_CENTER, _NOSE = 8, 9  # places of the two extra points behind a box's eight corners


def marker_array(
    detections: Detections, class_names: tuple[str, ...], header: Header
) -> MarkerArray:
    """Wireframe boxes with their headings, and above each its class and score.

    The first marker deletes all earlier ones; the second (`boxes`, one LINE_LIST for all) has for
    each box its twelve edges and a line from its middle out of its front; then one text each.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    if len(detections.boxes):
        markers.append(_wireframes(detections, header))
        markers += _texts(detections, class_names, header)
    return MarkerArray(markers=markers)


def _wireframes(detections: Detections, header: Header) -> Marker:
    boxes = np.asarray(detections.boxes, np.float64)
    corners = box_geometry.corners(boxes)
    center = corners.mean(1, keepdims=True)
    front = corners[:, [0, 1, 4, 5]].mean(1, keepdims=True)
    nose = center + 1.5 * (front - center)
    lines = [*box_geometry.EDGES.ravel().tolist(), _CENTER, _NOSE]
    points, colors = [], []
    vertices = np.concatenate([corners, center, nose], 1).tolist()
    for box_vertices, label in zip(vertices, detections.labels.tolist(), strict=True):
        # An edge shares its ends with others: one Point each, listed several times.
        ends = [Point(x=x, y=y, z=z) for x, y, z in box_vertices]
        points += [ends[i] for i in lines]
        colors += [_color(label)] * len(lines)
    marker = _marker(header, "boxes", 0, Marker.LINE_LIST, Vector3(x=_LINE_WIDTH_M))
    # Assigned once: each assignment checks every element.
    marker.points, marker.colors = points, colors
    return marker


def _texts(detections: Detections, class_names: tuple[str, ...], header: Header) -> list[Marker]:
    centers, _, sizes = box_geometry.to_ros(detections.boxes)
    above = centers.copy()
    above[:, 2] += sizes[:, 2] / 2 + _TEXT_HEIGHT_M
    texts = []
    for i, (position, label, score) in enumerate(
        zip(above.tolist(), detections.labels.tolist(), detections.scores.tolist(), strict=True)
    ):
        scale = Vector3(z=_TEXT_HEIGHT_M)
        text = _marker(header, "labels", i, Marker.TEXT_VIEW_FACING, scale)
        text.text = f"{class_names[label]} {score:.2f}"
        text.color = _color(label)
        text.pose.position = Point(x=position[0], y=position[1], z=position[2])
        texts.append(text)
    return texts


def _marker(header: Header, namespace: str, number: int, kind: int, scale: Vector3) -> Marker:
    pose = Pose()
    pose.orientation.w = 1.0
    marker = Marker(header=header, ns=namespace, id=number, type=kind, scale=scale, pose=pose)
    marker.action = Marker.ADD
    return marker


def _color(label: int) -> ColorRGBA:
    return _PALETTE[label % len(_PALETTE)]
