"""A car and an area of KITTI's labels, and the same elsewhere or as detections."""

from dataclasses import replace

from kd3d_core.data.labels import Label

CAR = Label(
    "Car", 0.0, 0, 0.3, (100.0, 100.0, 200.0, 180.0), (1.5, 1.6, 4.0), (2.0, 1.7, 20.0), 0.4
)
DONT_CARE = Label("DontCare", -1.0, -1, -10.0, (0.0,) * 4, (-1.0,) * 3, (-1000.0,) * 3, -10.0)


def found(label: Label, score: float) -> Label:
    return replace(label, truncated=-1.0, occluded=-1, score=score)


def moved(label: Label, metres: float, pixels: float = 0.0) -> Label:
    """The label elsewhere: `metres` to the right and `pixels` to the right in the image."""
    left, top, right, bottom = label.bbox
    x, y, z = label.location
    return replace(
        label,
        bbox=(left + pixels, top, right + pixels, bottom),
        location=(x + metres, y, z),
    )


ELSEWHERE = moved(CAR, 50.0, 500.0)
