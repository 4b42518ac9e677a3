"""Which colour stands for what, the same in pictures and in RViz."""

CLASS_COLORS: dict[str, tuple[int, int, int]] = {
    "Car": (64, 200, 255),
    "Pedestrian": (255, 120, 64),
    "Cyclist": (160, 255, 90),
}
"""RGB, 0 to 255."""

OTHER_COLOR = (220, 220, 90)
TRUTH_COLOR = (255, 255, 255)


def class_color(name: str) -> tuple[int, int, int]:
    """RGB of a class, one colour for all that are unknown."""
    return CLASS_COLORS.get(name, OTHER_COLOR)
