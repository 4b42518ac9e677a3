"""A configuration of several runs: what each is, and that they go on where one was killed."""

import logging
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_street import MODEL

from kd3d_core.cli import train as command
from kd3d_core.cli.train import replaced_settings
from kd3d_core.errors import ConfigError
from kd3d_core.training.config import load_train_config
from kd3d_core.training.stages import load_stages

SHARED = {"data": {"root": "frames"}, "model": "demo", "out": "runs/x", "epochs": 4,
          "optimizer": {"lr": 1e-3, "clip": 5.0}}  # fmt: skip
STAGES = {
    "depth": {"task": "depth", "optimizer": {"lr": 1e-4}},
    "teacher": {"task": "detector", "epochs": 2},
    "student": {"task": "distill", "model": "depth", "points": "pseudo",
                "teacher": {"model": "teacher"}},
}  # fmt: skip


def written(folder: Path, **values) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


class TestSettings:
    def test_each_has_what_is_shared_and_its_own(self, tmp_path):
        depth, teacher, student = load_stages(written(tmp_path, **SHARED, stages=STAGES))
        assert [stage.name for stage in (depth, teacher, student)] == list(STAGES)
        assert (depth.config.optimizer.lr, depth.config.optimizer.clip) == (1e-4, 5.0)
        assert (teacher.config.optimizer.lr, teacher.config.epochs) == (1e-3, 2)
        assert (depth.config.out, student.config.out) == ("runs/x/depth", "runs/x/student")
        assert (depth.config.model, teacher.config.model) == ("demo", "demo")

    def test_a_model_that_is_called_like_an_earlier_stage_is_what_that_leaves(self, tmp_path):
        *_, student = load_stages(written(tmp_path, **SHARED, stages=STAGES))
        assert student.config.model == "runs/x/depth/model.yaml"
        assert student.config.teacher.model == "runs/x/teacher/model.yaml"
        assert (student.ahead.model, student.ahead.teacher.model) == ("demo", "demo")
        later = {"student": {**STAGES["student"], "teacher": {"model": "demo"}}, **STAGES}
        first, *_ = load_stages(written(tmp_path, **SHARED, stages=later))
        assert first.config.model == "depth"  # no stage before: a model like any other

    def test_changes_reach_all_stages_or_one(self, tmp_path):
        path = written(tmp_path, **SHARED, stages=STAGES)
        words = ["x", "--epochs", "9", "--stages.depth.optimizer.lr", "0.5", "--data.root", "y"]
        depth, teacher, student = load_stages(path, replaced_settings(words)[2:])
        assert [stage.config.epochs for stage in (depth, teacher, student)] == [9, 2, 9]
        assert (depth.config.optimizer.lr, student.config.optimizer.lr) == (0.5, 1e-3)
        assert {stage.config.data.root for stage in (depth, teacher, student)} == {"y"}

    def test_a_file_without_stages_is_one_run(self, tmp_path):
        path = written(tmp_path, **SHARED, task="depth")
        (stage,) = load_stages(path)
        assert stage.name == ""
        assert stage.config == stage.ahead == load_train_config(path)

    @pytest.mark.parametrize(
        ("stages", "reason"),
        [
            ({}, "stages must hold settings under the name of each stage"),
            ([STAGES["depth"]], "stages must hold settings"),
            ({"a/b": STAGES["depth"]}, "stages.a/b: name it with letters"),
            ({"depth": "b"}, "stages.depth holds 'b', not settings"),
            ({"depth": {**STAGES["depth"], "epoch": 3}}, "stages.depth: unknown key 'epoch'"),
            (
                {"a": {**STAGES["depth"], "precision": "bf16"}, "b": STAGES["teacher"]},
                "the stages have precision auto and bf16",
            ),
            ({"depth": {**STAGES["teacher"], "stages": {}}}, "unknown key 'stages'"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_stage(self, tmp_path, stages, reason):
        path = written(tmp_path, **SHARED, stages=stages)
        with pytest.raises(ConfigError) as caught:
            load_stages(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)

    def test_a_wrong_option_isnt_blamed_on_the_file(self, tmp_path):
        path = written(tmp_path, **SHARED, stages=STAGES)
        with pytest.raises(ConfigError) as caught:
            load_stages(path, ["epoch=3"])
        assert str(caught.value) == "--epoch=3: stages.depth: unknown key 'epoch'"
        wrong = written(tmp_path, **SHARED, stages={"depth": {"tusk": "depth"}})
        with pytest.raises(ConfigError, match="unknown key 'tusk'"):
            load_stages(wrong, ["epochs=3"])


@pytest.fixture
def journey(tmp_path, street, monkeypatch) -> Path:
    """A depth network, then a student that is taught by its own detector on true LiDAR."""
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    given = tmp_path / "given"
    given.mkdir()
    model = written(given, **MODEL)
    frames = given / "frames.txt"
    frames.write_text("000001\n000003\n")
    stages = {
        "depth": {"task": "depth", "optimizer": {"lr": 1e-4}},
        "student": {"task": "distill", "model": "depth", "points": "pseudo",
                    "teacher": {"model": str(model)}},
    }  # fmt: skip
    return written(
        tmp_path, model=str(model), out=str(tmp_path / "out"), epochs=1, workers=0,
        precision="fp32", data={"root": str(street), "train": str(frames)}, stages=stages,
    )  # fmt: skip


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kd3d-train", *words])
    return command.main()


class TestRuns:
    def test_a_later_stage_goes_on_from_an_earlier_one(
        self, journey, tmp_path, monkeypatch, caplog
    ):
        caplog.set_level(logging.INFO)
        assert run(monkeypatch, str(journey)) == 0
        depth, student = (yaml.safe_load((tmp_path / "out" / name / "model.yaml").read_text())
                          for name in ("depth", "student"))  # fmt: skip
        assert Path(student["depth"]["weights"]).name == "depth"
        assert "stage 2 of 2, student" in caplog.text
        trained = load_file(tmp_path / "out" / "depth" / "depth" / "model.safetensors")
        used = load_file(Path(student["depth"]["weights"]) / "model.safetensors")
        assert all(torch.equal(used[name], value) for name, value in trained.items())
        assert depth["detector"]["weights"] == "random"
        assert student["detector"]["weights"] != "random"

        caplog.clear()
        before = (tmp_path / "out" / "student" / "latest" / "model.safetensors").read_bytes()
        assert run(monkeypatch, str(journey)) == 0
        assert caplog.text.count("finished already") == 2
        assert (
            tmp_path / "out" / "student" / "latest" / "model.safetensors"
        ).read_bytes() == before

    def test_it_goes_on_in_the_stage_in_which_it_was_killed(
        self, journey, tmp_path, monkeypatch, caplog
    ):
        caplog.set_level(logging.INFO)
        from kd3d_core.training.tasks import make_task

        def killed(config, keep=True):
            if config.task == "distill":
                raise KeyboardInterrupt
            return make_task(config, keep)

        monkeypatch.setattr("kd3d_core.training.tasks.make_task", killed)
        assert run(monkeypatch, str(journey)) == 130
        assert not (tmp_path / "out" / "student").exists()
        monkeypatch.setattr("kd3d_core.training.tasks.make_task", make_task)
        caplog.clear()
        assert run(monkeypatch, str(journey)) == 0
        assert caplog.text.count("finished already") == 1
        assert (tmp_path / "out" / "student" / "model.yaml").is_file()

    def test_a_dry_run_tries_all_stages_and_writes_nothing(
        self, journey, tmp_path, monkeypatch, capsys
    ):
        assert run(monkeypatch, str(journey), "--dry-run") == 0
        assert capsys.readouterr().out.count("nothing was written") == 2
        assert {path.name for path in tmp_path.iterdir()} == {"run.yaml", "given"}

    def test_what_a_later_stage_lacks_is_said_before_the_first_begins(
        self, journey, tmp_path, monkeypatch, capsys
    ):
        status = run(monkeypatch, str(journey), "--stages.student.teacher.model", "nobody")
        assert status == 1
        assert "no model is called 'nobody'" in capsys.readouterr().err
        assert {path.name for path in tmp_path.iterdir()} == {"run.yaml", "given"}
