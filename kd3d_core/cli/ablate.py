"""`kd3d-ablate`: many training runs that differ in one thing, and the table that compares them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd3d_core.cli.app import exit_on_sigterm, run
from kd3d_core.errors import Kd3dError

if TYPE_CHECKING:
    from kd3d_core.study.config import StudyConfig
    from kd3d_core.study.runs import StudyRun


def ablate(
    study: Path,
    *,
    only: list[str] = [],  # noqa: B006 - never changed; the parser wants a list
    seeds: list[str] = [],  # noqa: B006
    table: bool = False,
    workers: int = 0,
    set: list[str] = [],  # noqa: B006
) -> int:
    """Run what isn't finished yet of a study, and write its table.

    Frames are rendered and pseudo-LiDAR is made first, where the study asks for them. Each run is
    kd3d-train in a folder of its own; table.md, table.json, table.csv and two pictures are written
    after each. A run that fails is noted, and tried again by the next call.

    Args:
        study: YAML file, for example config/study/small.yaml.
        only: variants to run, and `teacher` or `assistant`. Default: all.
        seeds: which of the study's seeds to run; default: all.
        table: run nothing; write table and pictures of the runs that are finished.
        workers: processes that render; 0 for one per CPU.
        set: values that replace those of the file, as key=value.
    """
    from kd3d_core.config import load_config
    from kd3d_core.study.config import StudyConfig
    from kd3d_core.study.process import lock_study
    from kd3d_core.study.run import write_results
    from kd3d_core.study.runs import reference_runs, student_runs
    from kd3d_core.training.same_run import check_settings

    wanted = load_config(StudyConfig, study, set)
    if table:
        if not (Path(wanted.out) / "runs").is_dir():
            raise Kd3dError(f"{wanted.out} has no runs yet: give the same command without --table")
        write_results(wanted)
        _print_table(wanted)
        return 0
    runs = _chosen(wanted, only, seeds)
    with exit_on_sigterm(), lock_study(Path(wanted.out)) as lock:
        for each in (*reference_runs(wanted), *student_runs(wanted)):
            check_settings(each.config)
        failed = _conduct(wanted, runs, lock, workers)
    _print_table(wanted)
    for each in failed:
        print(f"kd3d-ablate: {each.name} failed: {each.failure()}", file=sys.stderr)
    return 1 if failed else 0


def _chosen(study: "StudyConfig", only: Sequence[str], seeds: Sequence[str]) -> list["StudyRun"]:
    """The runs that are asked for, and those of teachers that any of them needs."""
    from kd3d_core.study.runs import last_model, reference_runs, student_runs

    known = [*study.references, *study.variants]
    if unknown := [name for name in only if name not in known]:
        raise Kd3dError(f"--only {unknown[0]}: the study has {', '.join(known)}")
    words = [str(seed) for seed in study.seeds]
    if unknown := [word for word in seeds if word not in words]:
        raise Kd3dError(f"--seeds {unknown[0]}: the study has {', '.join(words)}")
    variants = [name for name in only if name not in study.references]
    students = []
    if variants or not only:
        students = student_runs(study, variants, [int(word) for word in seeds])
    asked = {each.config.teacher.model for each in students if each.config.teacher is not None}
    return [
        *(
            each
            for each in reference_runs(study)
            if not only or each.variant in only or str(last_model(each.folder)) in asked
        ),
        *students,
    ]


def _conduct(
    study: "StudyConfig", runs: Sequence["StudyRun"], lock: int, workers: int
) -> list["StudyRun"]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from kd3d_core.study.prepare import prepare
    from kd3d_core.study.run import run_study
    from kd3d_core.study.table import summary_line

    prepared = prepare(study, workers)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("runs", total=len(runs), said="")
        begun: list[StudyRun] = []

        def on_run(each: "StudyRun") -> None:
            if begun:
                progress.advance(bar)
                print(f"  {summary_line(begun[-1], study)}", flush=True)
            begun.append(each)
            print(f"{len(begun)}/{len(runs)} {each.name}: {each.log}", flush=True)
            progress.update(bar, description=each.name, said="")

        failed = run_study(
            study, runs, prepared, lock, on_run,
            lambda line: progress.update(bar, said=line[-100:]),
        )  # fmt: skip
        progress.advance(bar)
        if begun:
            print(f"  {summary_line(begun[-1], study)}", flush=True)
    return failed


def _print_table(study: "StudyConfig") -> None:
    path = Path(study.out) / "table.md"
    print(path.read_text())
    print(f"{path}, with table.json, table.csv, ap.png and epochs.png beside it")


def _settings() -> str:
    from kd3d_core.cli.settings import settings_text
    from kd3d_core.study.config import StudyConfig

    return (
        f"{settings_text(StudyConfig)}\n\nWhat `run` and `variants` may say: kd3d-train --settings"
    )


def main() -> int:
    """Entry point."""
    return run(
        ablate,
        prog="kd3d-ablate",
        description=(
            "Train a teacher and students that differ in one thing, over several seeds, and "
            "compare them in a table. Interrupted, the same command goes on."
        ),
        examples=[
            "kd3d-ablate config/study/small.yaml",
            "kd3d-ablate config/study/small.yaml --only control both --seeds 0",
            "kd3d-ablate config/study/small.yaml --table",
            "kd3d-ablate config/study/small.yaml --set out=runs/mine depth=model.yaml",
        ],
        settings=_settings,
    )


if __name__ == "__main__":
    sys.exit(main())
