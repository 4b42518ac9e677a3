"""Colours: of classes and labels, the same in pictures and in RViz, and of plots."""

Color = tuple[int, int, int]
"""RGB, 0 to 255."""

# Colour-blind safe (Okabe and Ito).
_CLASS_COLORS: dict[str, Color] = {
    "Car": (86, 180, 233),
    "Pedestrian": (230, 159, 0),
    "Cyclist": (0, 158, 115),
    "Van": (204, 121, 167),
    "Truck": (240, 228, 66),
}
SERIES = ("#2a8fd4", "#d97b00", "#009e73", "#b8649a")
"""Of plots: readable on white and on black; after Okabe and Ito."""
PARTS = (*SERIES, "#8c6bd1", "#c8323c", "#8a8f98")
"""Of what adds up in one bar."""
OTHER_COLOR: Color = (213, 94, 0)
TRUTH_COLOR: Color = (255, 255, 255)


def class_color(name: str) -> Color:
    """Colour of a class; unknown classes share one."""
    return _CLASS_COLORS.get(name, OTHER_COLOR)
