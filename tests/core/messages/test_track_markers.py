"""Ids and velocities of followed objects as RViz shows them."""

from dataclasses import replace

import numpy as np
from sample_messages import BOXES

from kd3d_core.data.bag import typestore
from kd3d_core.messages.markers import encode_markers
from kd3d_core.messages.types import MARKER_ARRAY, ObjectBoxes


def markers_of(boxes: ObjectBoxes) -> dict[str, list]:
    """Markers by their namespace, read with rosbags' definition."""
    data = encode_markers(boxes, lambda name: (255, 0, 0))
    found: dict[str, list] = {}
    for marker in typestore((MARKER_ARRAY,)).deserialize_cdr(data, MARKER_ARRAY).markers:
        found.setdefault(marker.ns, []).append(marker)
    return found


def ends(marker) -> np.ndarray:
    return np.array([(point.x, point.y, point.z) for point in marker.points])


def test_ids_are_in_the_texts() -> None:
    found = markers_of(replace(BOXES, ids=("12", "")))
    assert [marker.text for marker in found["labels"]] == ["Car 12 1.00", "Pedestrian 0.25"]
    assert "velocities" not in found


def test_velocities_are_lines_to_where_it_will_be_in_a_second() -> None:
    velocities = np.array([[8, -1, 0], [np.nan] * 3], np.float32)
    (line,) = markers_of(replace(BOXES, velocities=velocities))["velocities"]
    middle = np.array([10, 2, -1.7 + 0.75])
    np.testing.assert_allclose(ends(line), [middle, middle + np.array([8, -1, 0])], atol=1e-5)


def test_velocities_go_along_into_another_frame() -> None:
    turned = np.array([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    velocities = np.array([[8, -1, 0], [np.nan] * 3], np.float32)
    moved = replace(BOXES, velocities=velocities, frame_from_boxes=turned)
    (line,) = markers_of(moved)["velocities"]
    start, end = ends(line)
    np.testing.assert_allclose(start, [5 - 2, 10, 2 - 1.7 + 0.75], atol=1e-5)
    np.testing.assert_allclose(end - start, [1, 8, 0], atol=1e-5)


def test_nothing_is_known_of_any_velocity() -> None:
    found = markers_of(replace(BOXES, velocities=np.full((2, 3), np.nan)))
    assert "velocities" not in found
