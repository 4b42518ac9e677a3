"""Settings of the losses that CMKD has, as `config/train/*.yaml` say them."""

from dataclasses import dataclass
from math import inf

from kd3d_core.config import check_each


@dataclass(frozen=True)
class ResponseConfig:
    """How the answers of teacher and student are compared as CMKD does it, image by image.

    Every score of the student learns that of the teacher, by the quality focal loss; where the
    teacher is confident, boxes and headings learn its own, by its confidence.

    Attributes:
        threshold: confidence of the teacher from which an anchor counts: for a class, by its own
            score; for boxes and headings, by the sum over classes.
        cls, box, dir: factors of the three parts.
    """

    threshold: float = 0.1
    cls: float = 2.0
    box: float = 2.0
    dir: float = 0.4

    def __post_init__(self) -> None:
        group = "response"
        check_each(self, ("threshold",), lambda value: 0 < value < 1, "give a probability", group)
        factors = ("cls", "box", "dir")
        check_each(self, factors, lambda value: value >= 0, "it can't be negative", group)


@dataclass(frozen=True)
class BinsConfig:
    """How the distribution over depth learns from LiDAR: by a focal loss, where LiDAR has seen.

    Attributes:
        alpha: factor of the loss.
        gamma: how much less what is nearly right counts; 0 is cross entropy.
        objects: weight of what lies in a box (a label's, or the teacher's), beside 1 elsewhere.
    """

    alpha: float = 0.25
    gamma: float = 2.0
    objects: float = 13.0

    def __post_init__(self) -> None:
        names = ("alpha", "gamma", "objects")
        check_each(self, names, lambda value: 0 <= value < inf, "give 0 or more", "bins")
