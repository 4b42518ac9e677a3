"""How much each part of the loss counts, epoch by epoch: phases as data."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd3d_core.errors import ConfigError


@dataclass(frozen=True)
class LossWeights:
    """Factors of the parts of the loss.

    Attributes:
        det: of the detection loss, on labels or the teacher's boxes.
        feat: of the feature loss.
        logit: of the loss on the head's answers.
    """

    det: float
    feat: float
    logit: float


@dataclass(frozen=True)
class Phase:
    """A stretch of the training; a part that has weight 0 is not computed in it.

    Attributes:
        until_epoch: first epoch, counted from 0, that is no longer of this phase.
        det, feat, logit: see `LossWeights`.
        ramp_epochs: epochs over which the weights change in a line, from those of the phase before
            or, in the first phase, from the detection loss alone.
    """

    until_epoch: int
    det: float = 1.0
    feat: float = 0.0
    logit: float = 0.0
    ramp_epochs: float = 0.0

    def __post_init__(self) -> None:
        for name in ("det", "feat", "logit", "ramp_epochs"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"a phase has {name} {getattr(self, name)}: give 0 or more")
        if not self.det and not self.feat and not self.logit:
            raise ConfigError(
                f"the phase until epoch {self.until_epoch} has no weight above 0: nothing is learnt"
            )

    @property
    def weights(self) -> LossWeights:
        """Those of the phase, once its ramp is over."""
        return LossWeights(self.det, self.feat, self.logit)


def check_phases(phases: Sequence[Phase]) -> None:
    """Raise a `ConfigError` unless the phases follow each other and hold their ramps."""
    if not phases:
        raise ConfigError("phases is empty: give at least one, such as {until_epoch: 40, det: 1}")
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


def weights_at(phases: Sequence[Phase], epoch: float) -> LossWeights:
    """The weights at a moment; after the last phase, those of the last.

    Args:
        phases: checked ones, see `check_phases`.
        epoch: epochs that have passed; fractions are moments within one.
    """
    before, begin = LossWeights(phases[0].det, 0.0, 0.0), 0
    for phase in phases[:-1]:
        if epoch < phase.until_epoch:
            return _ramped(before, phase, epoch - begin)
        before, begin = phase.weights, phase.until_epoch
    return _ramped(before, phases[-1], epoch - begin)


def _ramped(before: LossWeights, phase: Phase, elapsed: float) -> LossWeights:
    if elapsed >= phase.ramp_epochs:
        return phase.weights
    share = elapsed / phase.ramp_epochs

    def mix(old: float, new: float) -> float:
        return old * (1 - share) + new * share

    return LossWeights(
        mix(before.det, phase.det), mix(before.feat, phase.feat), mix(before.logit, phase.logit)
    )
