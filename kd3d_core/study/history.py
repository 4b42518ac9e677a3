"""How a training run went, from its curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

_STEPS = "lr"
"""A curve that has a value for every step."""
_VALIDATION = "val/"
"""Begins the names of the curves of validations."""


@dataclass(frozen=True)
class History:
    """What a run's curves say.

    Attributes:
        seconds: of training, validation and checkpoints, over all attempts; without starting up,
            and without what was done twice after a kill.
        steps: at which it was validated.
        scores: by the name of each validation metric, its values at those steps; see
            `kd3d_core.training.validation.average_precision`.
    """

    seconds: float
    steps: tuple[int, ...]
    scores: dict[str, tuple[float, ...]]


def read_history(run: Path) -> History:
    """The history of the run in a folder.

    An interrupted run has a file of curves for each attempt; what an attempt did after the
    checkpoint that the next one began with isn't counted.
    """
    files = sorted((run / "tensorboard").glob("events.*"))  # by time
    curves = [_read(path) for path in files]
    seconds = 0.0
    validated: dict[int, dict[str, float]] = {}
    for index, curve in enumerate(curves):
        firsts = [later.first_step for later in curves[index + 1 :] if later.first_step is not None]
        end = min(firsts, default=None)
        kept = [(step, time) for step, time in curve.times if end is None or step < end]
        if kept:
            seconds += max(time for _, time in kept) - curve.began
        validated |= {step: value for step, value in curve.scores if end is None or step < end}
    steps = tuple(sorted(validated))
    names = sorted(set().union(*validated.values()))
    return History(
        seconds,
        steps,
        {name: tuple(validated[s].get(name, math.nan) for s in steps) for name in names},
    )


@dataclass(frozen=True)
class _Curves:
    began: float
    times: Sequence[tuple[int, float]]
    scores: Sequence[tuple[int, dict[str, float]]]

    @property
    def first_step(self) -> int | None:
        return min((step for step, _ in self.times), default=None)


def _read(path: Path) -> _Curves:
    events = EventAccumulator(str(path), size_guidance={"scalars": 0}).Reload()
    known = events.Tags()["scalars"]
    steps = events.Scalars(_STEPS) if _STEPS in known else []
    scores: dict[int, dict[str, float]] = {}
    times = [(event.step, event.wall_time) for event in steps]
    for name in known:
        if not name.startswith(_VALIDATION):
            continue
        for event in events.Scalars(name):
            scores.setdefault(event.step, {})[name.removeprefix(_VALIDATION)] = event.value
            times.append((event.step, event.wall_time))
    return _Curves(events.FirstEventTimestamp() if steps else 0.0, times, list(scores.items()))
