"""Rotated rectangles `(..., 5)`: x, y of the centre, length, width, angle from x to y."""

from typing import Any

from kd3d_core.geometry.points import Array, array_module


def intersection_area(rectangles: Array, others: Array) -> Array:
    """Area `(...)` that rotated rectangles `(..., 5)` have in common with others, broadcast.

    Exact up to rounding, also for rectangles that touch, coincide or contain one another, because
    no step decides by cases. In the frame of the second one, [-a, a] x [-b, b], Green's theorem
    gives the area of the intersection as the sum, over the four edges of the first one, of the
    integral of -clamp(y, -b, b) dx over the part of the edge with -a <= x <= a.

    >>> import numpy as np
    >>> square = np.array([0.0, 0.0, 2.0, 2.0, 0.0])
    >>> turned = np.array([0.0, 0.0, 2.0, 2.0, np.pi / 4])
    >>> beside = np.array([1.5, 0.0, 2.0, 2.0, 0.0])
    >>> intersection_area(square, np.stack([square, turned, beside])).round(3).tolist()
    [4.0, 3.314, 1.0]
    """
    xp = array_module(rectangles)
    x, y, length, width, angle = (rectangles[..., column] for column in range(5))
    other_x, other_y, other_length, other_width, other_angle = (
        others[..., column] for column in range(5)
    )
    # The corners of `rectangles`, seen from the centre and along the axes of `others`.
    cos_other, sin_other = xp.cos(other_angle), xp.sin(other_angle)
    dx, dy = x - other_x, y - other_y
    centre_x = cos_other * dx + sin_other * dy
    centre_y = cos_other * dy - sin_other * dx
    turn = angle - other_angle
    cos, sin = xp.cos(turn), xp.sin(turn)
    along_x, along_y = cos * length / 2, sin * length / 2
    across_x, across_y = -sin * width / 2, cos * width / 2
    corners = [
        (centre_x + i * along_x + j * across_x, centre_y + i * along_y + j * across_y)
        for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))
    ]
    half_length, half_width = other_length / 2, other_width / 2
    area = xp.zeros_like(centre_x)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        area = area - _integral_of_clamped_y(xp, x0, y0, x1, y1, half_length, half_width)
    smaller = xp.minimum(length * width, other_length * other_width)
    return xp.minimum(xp.clip(area, 0, None), smaller)


def _integral_of_clamped_y(
    xp: Any, x0: Array, y0: Array, x1: Array, y1: Array, half_length: Array, half_width: Array
) -> Array:
    """Integral of clamp(y, +-half_width) dx along (x0, y0) -> (x1, y1) where |x| <= half_length."""
    start = xp.clip(x0, -half_length, half_length)
    stop = xp.clip(x1, -half_length, half_length)
    run, rise = x1 - x0, y1 - y0
    run = xp.where(run == 0, 1, run)  # an upright edge: start == stop, the integral is 0
    y_start = y0 + (start - x0) / run * rise
    y_stop = y0 + (stop - x0) / run * rise
    low, high = xp.minimum(y_start, y_stop), xp.maximum(y_start, y_stop)
    # y is uniform between low and high: its clamped mean is made of the parts below, in and above.
    span = high - low
    span = xp.where(span == 0, 1, span)
    below = xp.clip((-half_width - low) / span, 0, 1)
    above = xp.clip((high - half_width) / span, 0, 1)
    middle = xp.clip(low, -half_width, half_width) + xp.clip(high, -half_width, half_width)
    mean = (above - below) * half_width + (1 - below - above) * middle / 2
    return (stop - start) * mean
