"""Settings of the losses that CMKD has, as `config/train/*.yaml` say them."""

from dataclasses import dataclass

from kd3d_core.errors import ConfigError


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
        if not 0 < self.threshold < 1:
            raise ConfigError(f"response.threshold is {self.threshold}: give a probability")
        for name in ("cls", "box", "dir"):
            if getattr(self, name) < 0:
                raise ConfigError(f"response.{name} is {getattr(self, name)}: it can't be negative")


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
        for name in ("alpha", "gamma", "objects"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"bins.{name} is {getattr(self, name)}: give 0 or more")
