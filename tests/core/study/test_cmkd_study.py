"""A study whose students read an image alone, and whose teacher is another network."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from small_study import settings, write_street

from kd3d_core.config import load_config
from kd3d_core.errors import ConfigError
from kd3d_core.models.config import load_model_config
from kd3d_core.paths import share_dir
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.study.config import StudyConfig
from kd3d_core.study.evaluate import evaluate_run
from kd3d_core.study.prepare import prepare
from kd3d_core.study.runs import last_model, reference_runs, student_runs
from kd3d_core.training.loop import train
from kd3d_core.training.tasks import make_task


def write(folder: Path, **changes) -> Path:
    values = settings(folder)
    student, teacher = (
        {**copy.deepcopy(values["detector"]), "type": kind}  # shared, they would be YAML aliases
        for kind in ("cmkd_tiny", "cmkd_teacher_tiny")
    )
    values |= {
        "detector": student,
        "teacher_detector": teacher,
        "variants": {
            "control": {"distill": {"phases": [{"until_epoch": 1, "weights": {"det": 1.0}}]}},
            "more": {
                "extra": [{"root": str(folder / "more"), "share": 0.5, "use_labels": False}],
                "distill": {
                    "start": ["backbone", "neck", "head"],
                    "phases": [{"until_epoch": 1, "weights": {"feat": 1.0, "bins": 1.0}}],
                    "feature": {"places": ["voxels"], "project": False, "scale": "rms"},
                },
            },
        },
    }
    del values["depth"]
    values["variants"]["control"]["distill"]["start"] = "model"
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def test_teacher_and_students_are_trained_and_judged(tmp_path, monkeypatch):
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    write_street(tmp_path / "street", [1, 4, 2, 3])
    write_street(tmp_path / "more", [2, 1])
    (tmp_path / "train.txt").write_text("000000\n000001\n")
    (tmp_path / "street" / "val.txt").write_text("000002\n000003\n")
    study = load_config(StudyConfig, write(tmp_path))
    prepared = prepare(study, 1)
    (teacher,) = reference_runs(study)
    runs = [teacher, *student_runs(study, seeds=[0])]
    for run in runs:
        train(run.config, make_task(run.config))
        evaluate_run(run, prepared)
    control, more = runs[1:]
    assert load_model_config(last_model(teacher.folder)).type == "lidar"
    for run in (control, more):
        detector = CameraDetector.from_config(last_model(run.folder), "cpu")
        assert detector.model.detector.reads_points is False
        assert json.loads((run.folder / "metrics.json").read_text())["frames"] == 2
    assert [extra.root for extra in more.config.data.extra] == [str(tmp_path / "more")]
    assert control.config.data.extra == ()
    assert not (tmp_path / "cache" / "pseudo_lidar").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"depth": "demo"}, "depth is demo, and the students are cmkd_tiny"),
        ({"teacher_detector": None}, "the teacher would be cmkd_tiny, which reads no LiDAR"),
        ({"variants": {"control": {"extra": [{"root": "a", "share": 2}]}}}, "share 2"),
    ],
)
def test_what_cannot_be_is_refused_at_once(tmp_path, changes, line):
    with pytest.raises(ConfigError, match=line):
        load_config(StudyConfig, write(tmp_path, **changes))


def test_the_shipped_study_is_one():
    study = load_config(StudyConfig, share_dir() / "config" / "study" / "cmkd.yaml")
    runs = {run.variant: run.config for run in student_runs(study, seeds=[0])}
    assert {"control", "feature", "response", "both", "unlabelled"} <= runs.keys()
    assert all(config.points == "lidar" for config in runs.values())
    assert runs["both"].distill.feature.places == ("voxels",)
    assert runs["unlabelled"].data.extra
