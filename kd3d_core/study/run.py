"""Running a study: the runs that aren't finished, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kd3d_core.data.pseudo_cache import weights_digest
from kd3d_core.errors import Kd3dError, first_line
from kd3d_core.study import process
from kd3d_core.study.config import StudyConfig
from kd3d_core.study.evaluate import evaluate_run
from kd3d_core.study.plots import write_plots
from kd3d_core.study.prepare import Prepared
from kd3d_core.study.runs import StudyRun
from kd3d_core.study.table import make_table
from kd3d_core.study.table_files import write_table
from kd3d_core.training.distill_task import load_teacher


def run_study(
    study: StudyConfig,
    runs: Sequence[StudyRun],
    prepared: Prepared,
    lock: int,
    on_run: Callable[[StudyRun], None],
    on_line: Callable[[str], None],
) -> list[StudyRun]:
    """Train and evaluate the runs that aren't finished; the table is written after each of them.

    Args:
        study: the study.
        runs: in their order, the teacher's before those that it teaches.
        prepared: what all share.
        lock: see `process.lock_study`.
        on_run: called before each run, finished or not.
        on_line: told what a run in training says.

    Returns:
        The runs that failed; the others were not held up by them.
    """
    failed: list[StudyRun] = []
    for run in runs:
        on_run(run)
        run.forget_failure()
        result = run.result()
        try:
            if result is not None:
                _check_teacher(run, result)
                continue
            if run.lacks_teacher:
                raise Kd3dError("its teacher has no weights: the teacher's run failed")
            process.train(run, lock, on_line)
            on_line("evaluating")
            evaluate_run(run, prepared)
        except (Kd3dError, RuntimeError, OSError) as error:
            run.fail(first_line(error))
            failed.append(run)
        write_results(study)
    write_results(study)  # of runs that were finished before, too
    return failed


def _check_teacher(run: StudyRun, result: Mapping[str, Any]) -> None:
    """Refuse a finished run whose teacher has other weights now: the table would mix two."""
    teacher = run.config.teacher
    if teacher is None or run.lacks_teacher:
        return
    _, detector = load_teacher(teacher, run.seed)
    if result.get("teacher_sha256") not in (None, weights_digest(detector)):
        raise Kd3dError(
            f"the teacher {teacher.name} has other weights than when the run was taught: delete "
            f"{run.folder} to run it again, or put the teacher back"
        )


def write_results(study: StudyConfig) -> None:
    """The table and the pictures of the runs that are finished."""
    table = make_table(study)
    write_table(table)
    write_plots(table)
