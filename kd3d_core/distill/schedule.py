"""How much each part of the loss counts, epoch by epoch: phases as data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from kd3d_core.errors import ConfigError

PartName = Literal[
    "det", "feat", "logit", "response", "bins", "depth_pixels", "depth_objects", "depth_image"
]  # fmt: skip
"""Parts of the loss. `det`: detection, on labels or the teacher's boxes; `feat`: the teacher's
features; `logit`: what its head says; `response`: the same, as CMKD compares it; `bins`: the
distribution over depth of a student of CMKD; `depth_pixels`, `depth_objects`: the depth of objects,
pixel by pixel and as a whole; `depth_image`: of all that LiDAR saw. `kd3d_core.distill.parts` says
how each is computed."""


_DETECTION: dict[PartName, float] = {"det": 1.0}


@dataclass(frozen=True)
class Phase:
    """A stretch of the training; a part that has weight 0 is not computed in it.

    Attributes:
        until_epoch: first epoch, counted from 0, that is no longer of this phase.
        weights: by name, the factors of the parts of the loss; those that aren't named have 0.
        ramp_epochs: epochs over which the weights change in a line, from those of the phase before
            or, in the first phase, from the detection loss alone.
    """

    until_epoch: int
    weights: dict[PartName, float] = field(default_factory=_DETECTION.copy)
    ramp_epochs: float = 0.0

    def __post_init__(self) -> None:
        if unknown := self.weights.keys() - set(get_args(PartName)):
            known = ", ".join(get_args(PartName))
            raise ConfigError(f"a phase has a weight for {min(unknown)!r}: the parts are {known}")
        for name, value in [*self.weights.items(), ("ramp_epochs", self.ramp_epochs)]:
            if not 0 <= value < float("inf"):
                raise ConfigError(f"a phase has {name} {value}: give 0 or more")
        if not self.parts:
            raise ConfigError(
                f"the phase until epoch {self.until_epoch} has no weight above 0: nothing is learnt"
            )

    @property
    def parts(self) -> set[PartName]:
        """The parts that count in this phase."""
        return {name for name, weight in self.weights.items() if weight}


def check_phases(phases: Sequence[Phase]) -> None:
    """Raise a `ConfigError` unless the phases follow each other and hold their ramps."""
    if not phases:
        raise ConfigError(
            "phases is empty: give at least one, such as {until_epoch: 40, weights: {det: 1.0}}"
        )
    begin = 0
    for phase in phases:
        if phase.until_epoch <= begin:
            raise ConfigError(
                f"a phase ends at epoch {phase.until_epoch}, and begins at {begin}: until_epoch "
                "must rise"
            )
        if phase.ramp_epochs > phase.until_epoch - begin:
            raise ConfigError(
                f"the phase from epoch {begin} to {phase.until_epoch} has a ramp of "
                f"{phase.ramp_epochs} epochs: it must fit into the phase"
            )
        begin = phase.until_epoch


def weights_at(phases: Sequence[Phase], epoch: float) -> dict[PartName, float]:
    """The weights of all parts after so many epochs; after the last phase, those of the last.

    >>> weights_at([Phase(2, {"det": 1.0}), Phase(4, {"det": 3.0, "feat": 1.5})], 2.5)
    {'det': 3.0, 'feat': 1.5}
    """
    names = list(dict.fromkeys(name for phase in phases for name in phase.weights))
    before = dict.fromkeys(names, 0.0)
    if "det" in before:
        before["det"] = phases[0].weights.get("det", 0.0)
    begin = 0
    for phase in phases:
        now = {name: phase.weights.get(name, 0.0) for name in names}
        if epoch < phase.until_epoch or phase is phases[-1]:
            share = 1.0
            if epoch - begin < phase.ramp_epochs:
                share = (epoch - begin) / phase.ramp_epochs
            return {name: before[name] * (1 - share) + now[name] * share for name in names}
        before, begin = now, phase.until_epoch
    raise AssertionError("check_phases has seen that there is a phase")
