"""What the training loop needs of a task, and which of its checkpoints is the best."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kd3d_core.data.mixed_samples import MixedSamples
from kd3d_core.data.samples import FrameSamples
from kd3d_core.training.same_run import Digests


@dataclass(frozen=True)
class Score:
    """A validation metric that decides which checkpoint is the best."""

    name: str
    higher_is_better: bool = True


@dataclass(frozen=True)
class Pace:
    """How some of the parameters learn, other than the rest.

    Attributes:
        prefix: of the parameters' names.
        lr_factor: of the learning rate.
        clip: largest norm of their gradients, together; 0 doesn't clip.
    """

    prefix: str
    lr_factor: float
    clip: float


class Task(ABC):
    """What is trained.

    Attributes:
        model: its forward takes a `Batch` and returns named losses, whose sum is minimised.
        samples: frames to train on: a map-style dataset of `Sample` with `set_epoch`.
        digests: see `kd3d_core.training.resume.digests_of`.
        scores: what makes a checkpoint the best; each decides where those before it are equal.
        has_idle_parameters: whether some of the weights get no gradient in some of the steps.
        paces: of parameters that learn at another pace.
    """

    scores: tuple[Score, ...]
    has_idle_parameters = False
    paces: tuple[Pace, ...] = ()

    def __init__(
        self, model: nn.Module, samples: FrameSamples | MixedSamples, digests: Digests
    ) -> None:
        self.model = model
        self.samples = samples
        self.digests = digests

    @abstractmethod
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Metrics of `model` on the validation frames; without those that mean nothing there."""

    @abstractmethod
    def export(self, model: nn.Module, out: Path) -> None:
        """Write the weights of `model` so that `CameraDetector` can load them."""

    def scalars(self, epoch: int) -> dict[str, float]:
        """What decides an epoch and deserves a curve, such as the weights of losses; by name."""
        return {}


def rank(scores: Sequence[Score], metrics: Mapping[str, float]) -> tuple[float, ...]:
    """Compares checkpoints: the higher tuple is the better one.

    A metric that is missing counts as the worst.

    >>> scores = [Score("AP"), Score("error", higher_is_better=False)]
    >>> rank(scores, {"AP": 0.0, "error": 2.0}) > rank(scores, {"AP": 0.0, "error": 3.0})
    True
    """
    values = [(score, metrics.get(score.name, math.nan)) for score in scores]
    return tuple(
        -math.inf if math.isnan(value) else value if score.higher_is_better else -value
        for score, value in values
    )


def reason(scores: Sequence[Score], metrics: Mapping[str, float]) -> str:
    """Why a checkpoint with these metrics is the best: the first metric that isn't 0 or missing."""
    flat: list[str] = []
    for score in scores:
        value = metrics.get(score.name, math.nan)
        if value != 0 and not math.isnan(value):
            word = "highest" if score.higher_is_better else "lowest"
            before = f"; {' and '.join(flat)}: 0 or missing" if flat else ""
            return f"{word} {score.name}, {value:.4g}{before}"
        flat.append(score.name)
    return f"the newest; {' and '.join(flat)}: 0 or missing in each validation"
