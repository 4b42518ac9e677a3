"""What a study's file says, and which runs come of it."""

import subprocess
import sys

import pytest
from small_study import write_study

from kd3d_core.config import load_config
from kd3d_core.errors import ConfigError
from kd3d_core.paths import share_dir
from kd3d_core.study.config import Metric, StudyConfig, merged
from kd3d_core.study.runs import last_model, reference_runs, student_runs


def test_settings_within_settings_are_merged():
    base = {"a": 1, "b": {"c": 2, "d": [3, 4]}}
    assert merged(base, {"b": {"d": [5]}, "e": 6}) == {"a": 1, "b": {"c": 2, "d": [5]}, "e": 6}
    assert base == {"a": 1, "b": {"c": 2, "d": [3, 4]}}
    assert merged(base, {"b": None}) == {"a": 1, "b": None}


def test_runs_come_seed_by_seed_and_differ_in_what_the_file_says(study):
    runs = student_runs(study)
    assert [run.name for run in runs] == [
        "control, seed 0", "both, seed 0", "control, seed 1", "both, seed 1",
    ]  # fmt: skip
    control, both = runs[2].config, runs[3].config
    assert (control.task, control.teacher, control.points) == ("detector", None, "pseudo")
    assert (both.task, both.points, both.seed) == ("distill", "pseudo", 1)
    assert both.distill is not None
    assert both.distill.start == "model"
    assert control.optimizer == both.optimizer
    teacher = reference_runs(study)[0].config
    assert (teacher.task, teacher.points, teacher.seed) == ("detector", "lidar", 0)
    assert both.teacher is not None
    assert both.teacher.model.startswith(teacher.out)
    assert len({run.config.out for run in runs}) == 4
    assert {run.config.model for run in runs} == {teacher.model}
    assert [run.name for run in student_runs(study, ["both"], [1])] == ["both, seed 1"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"control": "none"}, "control is none"),
        ({"seeds": [1, 1]}, "seeds is"),
        ({"variants": {"control": {}, "teacher": {}}}, "a variant is called 'teacher'"),
        ({"variants": {"control": {}, "a/b": {}}}, "a variant is called 'a/b'"),
        ({"variants": {"control": {"seed": 3}}}, "variants.control has seed"),
        ({"run": {"distill": {}}}, "distill belongs to a variant"),
        ({"data": {"root": "x"}}, "no val and no val_root"),
        ({"metrics": [{"class_name": "car", "iou": 0.6}]}, "car at IoU 0.6: give 0.7 or 0.5"),
        ({"render": {"train": {"frames": 1}, "val": {"frames": 1}}}, "seed 0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, changes, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(StudyConfig, write_study(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_wrong_setting_of_a_run_names_the_variant(tmp_path):
    variants = {"control": {}, "odd": {"optimiser": {"lr": 1}}}
    study = load_config(StudyConfig, write_study(tmp_path, variants=variants))
    with pytest.raises(ConfigError, match=r"the run of odd: .*optimiser") as caught:
        student_runs(study)
    assert "\n" not in str(caught.value)


def test_metrics_are_those_of_either_set_of_overlaps():
    assert [Metric("car", 0.7).strictness, Metric("car", 0.5).strictness] == ["strict", "loose"]
    assert Metric("cyclist", 0.5).strictness == "strict"
    assert Metric("pedestrian", 0.25, "bev").name == "pedestrian BEV 0.25"


def test_only_a_teacher_with_a_file_can_lack_it(tmp_path):
    variants = {
        "control": {},
        "own": {"distill": {}},
        "named": {"distill": {}, "teacher": {"model": "demo"}},
    }
    study = load_config(StudyConfig, write_study(tmp_path, variants=variants))
    control, own, named = student_runs(study, seeds=[0])
    assert [run.lacks_teacher for run in (control, own, named)] == [False, True, False]
    path = last_model(reference_runs(study)[0].folder)
    path.parent.mkdir(parents=True)
    path.touch()
    assert not own.lacks_teacher


@pytest.mark.slow  # a process that imports all there is
def test_frames_that_are_there_need_nothing_that_renders(tmp_path):
    """Embree has no wheel for ARM."""
    script = (
        "import sys; sys.modules['embreex'] = None\n"
        "from kd3d_core.cli import ablate\n"
        "import kd3d_core.study.run, kd3d_core.study.prepare\n"
        "sys.exit(ablate.main())"
    )
    path = write_study(tmp_path)
    words = [sys.executable, "-c", script, str(path), "--table"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "has no runs yet" in done.stderr
    render = {"train": {"frames": 1}, "val": {"frames": 1, "seed": 1}}
    data = {"root": "train", "val_root": "val"}
    write_study(tmp_path, render=render, data=data)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "synthetic scenes need embreex" in done.stderr


@pytest.mark.parametrize("path", sorted((share_dir() / "config" / "study").glob("*.yaml")))
def test_the_studies_that_ship_make_sense(path):
    study = load_config(StudyConfig, path)
    runs = [*reference_runs(study), *student_runs(study, seeds=study.seeds[:1])]
    assert len(study.seeds) == 3
    for run in runs:
        assert run.config.augment is not None
        if run.config.distill is not None:
            assert run.config.distill.phases[-1].until_epoch == run.config.epochs
