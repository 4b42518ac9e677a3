"""The runs of a study: their settings, their folders, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd3d_core.config import plain
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.files import read_json
from kd3d_core.models.config import is_model_file
from kd3d_core.study.config import ASSISTANT, TEACHER, StudyConfig, merged
from kd3d_core.training.config import DataConfig, TrainConfig, make_train_config


@dataclass(frozen=True)
class StudyRun:
    """A training run of a study; `variant` is `teacher` or `assistant` for those that teach."""

    variant: str
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """For a reader."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return Path(self.config.out)

    @property
    def log(self) -> Path:
        """What `kd3d-train` said."""
        return self.folder / "train.log"

    @property
    def detections(self) -> Path:
        """KITTI files of what it detects in the validation frames."""
        return self.folder / "detections"

    @property
    def lacks_teacher(self) -> bool:
        """Whether it needs a teacher's model file that isn't there."""
        teacher = self.config.teacher
        if teacher is None or not is_model_file(teacher.model):
            return False
        return not Path(teacher.model).is_file()

    def result(self) -> dict[str, Any] | None:
        """What `evaluate_run` wrote; None if the run isn't finished, or the last attempt failed."""
        path = self.folder / "metrics.json"
        if not path.is_file() or self._failure.is_file():
            return None
        try:
            return read_json(path)
        except DataError as error:
            raise DataError(f"{error}; delete it to evaluate the run again") from None

    def failure(self) -> str | None:
        """Why the last attempt failed, if it did."""
        path = self._failure
        return path.read_text().strip() if path.is_file() else None

    @property
    def _failure(self) -> Path:
        return self.folder / "failed.txt"

    def fail(self, reason: str) -> None:
        """Record that an attempt failed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._failure.write_text(reason + "\n")

    def forget_failure(self) -> None:
        """Begin another attempt."""
        self._failure.unlink(missing_ok=True)


def student_runs(
    study: StudyConfig, only: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[StudyRun]:
    """The students' runs, seed by seed: a study that is cut off can be compared in what it has.

    `only` names variants, and `seeds` some of the study's; by default all.
    """
    return [
        StudyRun(name, seed, _student_config(study, name, seed))
        for seed in study.seeds
        if not seeds or seed in seeds
        for name in study.variants
        if not only or name in only
    ]


def reference_runs(study: StudyConfig) -> list[StudyRun]:
    """The runs that teach: the students' detector on true LiDAR, and on true depth if asked for."""
    settings = {
        TEACHER: (study.teacher, "lidar"),
        ASSISTANT: (study.assistant or {}, "true_depth"),
    }
    runs = []
    for name in study.references:
        changes, points = settings[name]
        values, seed = merged(study.run, changes), study.teacher_seed
        model, data = teacher_file(study), study.data
        config = _config(study, values, name, seed, model, data, task="detector", points=points)
        runs.append(StudyRun(name, seed, config))
    return runs


def model_file(study: StudyConfig) -> Path:
    """The model of all runs; `kd3d_core.study.prepare` writes it."""
    return Path(study.out) / "model.yaml"


def teacher_file(study: StudyConfig) -> Path:
    """The model of the runs that teach; that of all runs, unless the study has another."""
    if study.teacher_detector is None:
        return model_file(study)
    return Path(study.out) / "teacher.yaml"


def last_model(folder: Path) -> Path:
    """The model with the last weights of the run in `folder`; `evaluate_run` writes it."""
    return folder / "last" / "model.yaml"


def _student_config(study: StudyConfig, name: str, seed: int) -> TrainConfig:
    settings = merged(study.run, study.variants[name])
    settings.pop("extra", None)
    task = "detector"
    if settings.get("distill") is not None:
        task = "distill"
        if "teacher" not in settings or settings["teacher"] is not None:
            settings["teacher"] = _teacher(study, settings.get("teacher") or {})
    # Students of CMKD read no points at all.
    points = "lidar" if study.detector.reads_image_alone else "pseudo"
    model, data = model_file(study), study.frames_of(name)
    return _config(study, settings, name, seed, model, data, task=task, points=points)


def _teacher(study: StudyConfig, changes: dict[str, Any]) -> dict[str, Any]:
    """Who teaches a student: the teacher, or the assistant if it is asked for by what it reads."""
    points = changes.get("points", "lidar")
    name = ASSISTANT if points == "true_depth" else TEACHER
    if name not in study.references and "model" not in changes:
        raise ConfigError(
            "a variant has teacher.points true_depth, and the study no assistant: give it one, "
            "such as `assistant: {}`"
            "as `assistant: {}`"
        )
    weights = last_model(_folder(study, name, study.teacher_seed))
    return merged({"model": str(weights), "points": points}, changes)


def _config(
    study: StudyConfig,
    settings: dict[str, Any],
    name: str,
    seed: int,
    model: Path,
    data: DataConfig,
    **decided: str,
) -> TrainConfig:
    values = {
        **settings,
        **decided,
        "model": str(model),
        "data": plain(data),
        "out": str(_folder(study, name, seed)),
        "seed": seed,
    }
    try:
        return make_train_config(values, name)
    except ConfigError as error:
        raise ConfigError(f"the run of {error}") from None


def _folder(study: StudyConfig, name: str, seed: int) -> Path:
    return Path(study.out) / "runs" / name / f"seed{seed}"
