"""A study's table: what each variant reached, over its seeds, and how that compares."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kd3d_core.study.config import TEACHER, Metric, StudyConfig
from kd3d_core.study.evaluate import MODERATE
from kd3d_core.study.runs import StudyRun, reference_runs, student_runs


@dataclass(frozen=True)
class Spread:
    """Mean of some seeds' values, and their sample standard deviation; None for a single one."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None if there are no values."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation)


@dataclass(frozen=True)
class Row:
    """What one variant reached.

    Attributes:
        seeds: those whose runs are finished.
        ap: by metric, percent.
        difference: by metric, to the control with the same seed, in points; None where there is
            none, such as for the control itself.
        gap_closed: by metric, the difference as a share of teacher minus control, in the mean of
            the same seeds; None where the teacher isn't better.
        values: by metric and seed, percent.
    """

    name: str
    seeds: tuple[int, ...]
    ap: dict[str, Spread | None]
    difference: dict[str, Spread | None]
    gap_closed: dict[str, float | None]
    seconds: float | None
    values: dict[str, dict[int, float]]


@dataclass(frozen=True)
class Table:
    """All that is known of a study.

    Attributes:
        study: its settings.
        rows: those that teach first, then the variants in their order.
        results: by variant and seed, what `evaluate_run` wrote.
        failures: by the run's name, why it failed.
    """

    study: StudyConfig
    rows: tuple[Row, ...]
    results: dict[str, dict[int, dict[str, Any]]]
    failures: dict[str, str]

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return sum(len(row.seeds) for row in self.rows)

    @property
    def planned(self) -> int:
        """Number of runs that the study has."""
        return len(self.study.references) + len(self.study.variants) * len(self.study.seeds)


def make_table(study: StudyConfig) -> Table:
    """The table of the runs that are finished."""
    results: dict[str, dict[int, dict[str, Any]]] = {
        name: {} for name in (*study.references, *study.variants)
    }
    failures = {}
    for run in (*reference_runs(study), *student_runs(study)):
        result = run.result()
        failure = run.failure()
        if result is not None:
            results[run.variant][run.seed] = result
        if failure is not None:
            failures[run.name] = failure
    values = {
        name: {metric.name: _values(by_seed, metric) for metric in study.metrics}
        for name, by_seed in results.items()
    }
    # There is one of each that teaches, which stands against every seed of the control.
    compared = values | {
        name: {
            metric: {seed: value for seed in study.seeds for value in by_seed.values()}
            for metric, by_seed in values[name].items()
        }
        for name in study.references
    }
    rows = tuple(
        Row(
            name,
            tuple(results[name]),
            {metric: Spread.of(list(by_seed.values())) for metric, by_seed in ap.items()},
            *_against(name, study.control, compared),
            _mean_seconds(results[name].values()),
            ap,
        )
        for name, ap in values.items()
    )
    return Table(study, rows, results, failures)


def summary_line(run: StudyRun, study: StudyConfig) -> str:
    """A finished run's numbers, or why there are none, in a line."""
    result = run.result()
    if result is None:
        return f"failed: {run.failure()}"
    found = [
        f"{metric.name} {value:.2f}"
        for metric in study.metrics
        for value in _values({run.seed: result}, metric).values()
    ]
    return f"AP R40 moderate: {', '.join(found)}; {result['seconds'] / 60:.1f} minutes"


def _values(by_seed: Mapping[int, Mapping[str, Any]], metric: Metric) -> dict[int, float]:
    """AP R40 moderate by seed, of those runs in whose frames there are such objects."""
    found = {}
    for seed, result in by_seed.items():
        value = result["ap"][metric.strictness][metric.class_name][metric.kind]["R40"][MODERATE]
        if value is not None and result["objects"][metric.class_name]:
            found[seed] = float(value)
    return found


def _against(
    name: str, control: str, values: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> tuple[dict[str, Spread | None], dict[str, float | None]]:
    """By metric, a variant's difference to the control and the share of the gap that it closed."""
    difference: dict[str, Spread | None] = {}
    gap_closed: dict[str, float | None] = {}
    for metric, mine in values[name].items():
        base, best = values[control][metric], values[TEACHER][metric]
        seeds = [seed for seed in base if seed in mine and name != control]
        difference[metric] = Spread.of([mine[seed] - base[seed] for seed in seeds])
        gap = Spread.of([best[seed] - base[seed] for seed in seeds if seed in best])
        gained = difference[metric]
        gap_closed[metric] = None
        if name != TEACHER and gained is not None and gap is not None and gap.mean > 0:
            gap_closed[metric] = gained.mean / gap.mean
    return difference, gap_closed


def _mean_seconds(results: Iterable[Mapping[str, Any]]) -> float | None:
    spread = Spread.of([float(result["seconds"]) for result in results])
    return None if spread is None else spread.mean
