"""One box for each object, where detectors of several classes see the same one."""

import numpy as np

from kd3d_core.geometry.boxes import footprints
from kd3d_core.geometry.rectangles import intersection_area
from kd3d_core.messages.types import ObjectBoxes

_SAME_OBJECT = 0.5
"""Share of the smaller one's ground from which two boxes are one object."""


def one_per_object(found: ObjectBoxes) -> ObjectBoxes:
    """The boxes without those that stand mostly on the ground of a better one of another class.

    Heads suppress boxes within a class only, and evaluations want it so: a van may be a worse car.
    Pictures show what is most likely there.

    >>> boxes = np.array([[20.0, 0, -1.7, 4, 1.8, 1.5, 0], [20.5, 0, -1.7, 0.8, 0.6, 1.8, 0]])
    >>> found = ObjectBoxes(0, "", boxes, ("Car", "Pedestrian"), np.array([0.9, 0.4]))
    >>> one_per_object(found).names
    ('Car',)
    """
    ground = footprints(found.boxes).astype(np.float64)
    common = intersection_area(ground[:, None], ground[None])
    area = ground[:, 2] * ground[:, 3]
    names = np.array(found.names)
    rivals = common > _SAME_OBJECT * np.minimum(area[:, None], area[None])
    rivals &= names[:, None] != names[None]
    kept: list[int] = []
    for index in np.argsort(-found.scores, kind="stable").tolist():
        if not rivals[index, kept].any():
            kept.append(index)
    return found.select(np.sort(np.array(kept, np.int64)))
